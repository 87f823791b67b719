"""One task per operation, the network a function of explicit weights: the fastest engine on a CPU for large images."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from fewshot.backbones.fused import differentiated_once
from fewshot.backbones.layout import fastest_layout
from fewshot.inner.call import features, query_outputs
from fewshot.inner.chunks import ChunkedEngine
from fewshot.inner.fast_weights import FastWeights
from fewshot.tasks.batch import TaskBatch


class OneTask(FastWeights):
    """Fast weights have the shapes of the parameters; the leading dimension of the single task is removed and restored."""

    def prepared(self, chunk: TaskBatch) -> TaskBatch:
        return chunk.with_inputs(*(fastest_layout(x[0]).unsqueeze(0) for x in (chunk.support_x, chunk.query_x)))

    def init_tasks(self, chunk: TaskBatch) -> dict[str, Tensor]:
        return {} if self.task_init is None else self.task_init(chunk.support_x[0], chunk.support_y[0])

    def stack(self, parameter: Tensor, tasks: int) -> Tensor:
        return parameter.view_as(parameter)

    def outputs(self, fast: Sequence[Tensor], x: Tensor) -> Tensor:
        return self.call(self.weights(fast), x[0]).unsqueeze(0)

    def query_outputs(self, fast: Sequence[Tensor], chunk: TaskBatch) -> Tensor:
        network = partial(self.call, self.weights(fast))
        with differentiated_once():
            return query_outputs(network, chunk.support_x[0], chunk.query_x[0], self.batch_norm).unsqueeze(0)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.loss(outputs[0], targets[0]).unsqueeze(0)

    def body_features(self, body: nn.Module, chunk: TaskBatch) -> tuple[Tensor, Tensor]:
        with differentiated_once():
            support, query = features(body, chunk.support_x[0], chunk.query_x[0], self.batch_norm)
        return support.unsqueeze(0), query.unsqueeze(0)


class FunctionalEngine(ChunkedEngine):
    """A task at a time, or one in each thread."""

    name = "functional"
    kind = OneTask
    chunk = 1


ENGINE = FunctionalEngine
