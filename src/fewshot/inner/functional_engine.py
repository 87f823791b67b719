"""One task per operation, the network a function of explicit weights: the fastest engine on a CPU for large images."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from fewshot.backbones.fused import differentiated_once
from fewshot.backbones.layout import fastest_layout
from fewshot.inner.chunks import FastWeightsEngine
from fewshot.tasks.batch import TaskBatch


class FunctionalEngine(FastWeightsEngine):
    """Fast weights have the shapes of the parameters; the leading dimension of the single task is removed and restored."""

    name = "functional"
    stacked = False
    chunk = 1

    def prepared(self, batch: TaskBatch) -> TaskBatch:
        return batch.with_inputs(*(fastest_layout(x[0]).unsqueeze(0) for x in (batch.support_x, batch.query_x)))

    def init_tasks(self, chunk: TaskBatch) -> dict[str, Tensor]:
        return {} if self.task_init is None else self.task_init(chunk.support_x[0], chunk.support_y[0])

    def stack(self, parameter: Tensor, tasks: int) -> Tensor:
        return parameter.view_as(parameter)

    def outputs(self, fast: Sequence[Tensor], x: Tensor) -> Tensor:
        return self.call(self.weights(fast), x[0]).unsqueeze(0)

    def queries(self, fast: Sequence[Tensor], chunk: TaskBatch) -> Tensor:
        with differentiated_once():
            return self.query_outputs(partial(self.call, self.weights(fast)), chunk.support_x[0], chunk.query_x[0]).unsqueeze(0)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.loss(outputs[0], targets[0]).unsqueeze(0)

    def embedded(self, body: nn.Module, chunk: TaskBatch) -> tuple[Tensor, Tensor]:
        with differentiated_once():
            support, query = self.features(body, chunk.support_x[0], chunk.query_x[0])
        return support.unsqueeze(0), query.unsqueeze(0)


ENGINE = FunctionalEngine
