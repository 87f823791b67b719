"""One task after another, the network a function of explicit weights: the fastest on a CPU where images are large."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call

from fewshot.inner.fast_weights import FastWeightsEngine
from fewshot.tasks import TaskBatch


class FunctionalEngine(FastWeightsEngine):
    """Fast weights have the shapes of the parameters; the only task's leading dimension is taken off and put back."""

    name = "functional"

    def tasks_at_once(self, batch: TaskBatch) -> int:
        return 1

    def prepared(self, batch: TaskBatch) -> TaskBatch:
        if batch.support_x.ndim != 5 or batch.support_x.device.type != "cpu":
            return batch
        # Pooling and normalisation run along channels, several times faster on a CPU.
        support_x, query_x = (
            x[0].contiguous(memory_format=torch.channels_last).unsqueeze(0) for x in (batch.support_x, batch.query_x)
        )
        return batch.with_inputs(support_x, query_x)

    def start(self, tasks: int) -> list[Tensor]:
        return [parameter.view_as(parameter) for parameter in self._adapted.values()]

    def outputs(self, fast: Sequence[Tensor], x: Tensor) -> Tensor:
        return self._of_task(fast, x[0]).unsqueeze(0)

    def queries(self, fast: Sequence[Tensor], chunk: TaskBatch) -> Tensor:
        return self.query_outputs(lambda x: self._of_task(fast, x), chunk.support_x[0], chunk.query_x[0]).unsqueeze(0)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.loss(outputs[0], targets[0]).unsqueeze(0)

    def _of_task(self, fast: Sequence[Tensor], x: Tensor) -> Tensor:
        outputs: Tensor = functional_call(self.network, self.weights(fast), (x,))
        return outputs


build = FunctionalEngine
