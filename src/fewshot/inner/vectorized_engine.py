"""Many tasks per operation, by ``torch.func.vmap``: the fastest engine for small images, and on a GPU."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import vmap

from fewshot.backbones.layout import fastest_layout
from fewshot.backbones.norm import BatchNorm
from fewshot.backbones.statistics import by_task
from fewshot.errors import UserError
from fewshot.inner.call import features, query_outputs
from fewshot.inner.chunks import ChunkedEngine
from fewshot.inner.fast_weights import FastWeights
from fewshot.tasks.batch import TaskBatch

CHUNK = 8
"""Tasks per operation on a CPU: more of them need more memory and are hardly faster."""


class ManyTasks(FastWeights):
    """Fast weights have a leading dimension of tasks, over which the network is vectorised (``torch.func.vmap``).

    Parameters that are not adapted have no such dimension: their layers see the images of all tasks as one batch.

    On a CPU, images are channels-last with the tasks beside the channels, ``(B, H, W, T, C)``; on a GPU their layout is left
    as it is.
    """

    stacked = True

    def prepared(self, chunk: TaskBatch) -> TaskBatch:
        if chunk.support_x.ndim != 5 or chunk.support_x.device.type != "cpu":
            return chunk
        return chunk.with_inputs(*(_channels_last(x) for x in (chunk.support_x, chunk.query_x)))

    def init_tasks(self, chunk: TaskBatch) -> dict[str, Tensor]:
        return {} if self.task_init is None else vmap(self.task_init)(chunk.support_x, chunk.support_y)

    def stack(self, parameter: Tensor, tasks: int) -> Tensor:
        # PyTorch's convolution in double precision is another implementation, which refuses this memory layout.
        if parameter.ndim != 4 or parameter.device.type != "cpu" or parameter.dtype == torch.float64:
            return parameter.expand(tasks, *parameter.shape)
        channels_last = parameter.movedim(1, -1)
        return channels_last.expand(tasks, *channels_last.shape).contiguous().movedim(-1, 2)

    def outputs(self, fast: Sequence[Tensor], x: Tensor) -> Tensor:
        return self._vectorized(self.call, fast, x)

    def query_outputs(self, fast: Sequence[Tensor], chunk: TaskBatch) -> Tensor:
        def of_task(weights: dict[str, Tensor], support_x: Tensor, query_x: Tensor) -> Tensor:
            return query_outputs(partial(self.call, weights), support_x, query_x, self.batch_norm)

        return self._vectorized(of_task, fast, chunk.support_x, chunk.query_x)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        losses: Tensor = vmap(self.loss)(outputs, targets)
        return losses

    def body_features(self, body: nn.Module, chunk: TaskBatch) -> tuple[Tensor, Tensor]:
        support, query = chunk.support_x, chunk.query_x
        # A GPU normalises all tasks in one operation under vmap; on a CPU, task by task is faster.
        if support.device.type != "cpu" and any(isinstance(module, BatchNorm) for module in body.modules()):
            found: tuple[Tensor, Tensor] = vmap(partial(features, body, batch_norm=self.batch_norm))(support, query)
            return found
        if self.batch_norm == "transductive":
            return _body_features(body, support), _body_features(body, query)
        shots = support.shape[1]
        both = _body_features(body, torch.cat([support, query], dim=1), first=shots)
        return both[:, :shots], both[:, shots:]

    def _vectorized(self, function, fast: Sequence[Tensor], *inputs: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        weights = self.weights(fast)
        dims = {name: 0 if name in self.adapted else None for name in weights}
        outputs: Tensor = vmap(function, in_dims=(dims, *(0 for _ in inputs)))(weights, *inputs)
        return outputs


def _body_features(body: nn.Module, images: Tensor, first: int | None = None) -> Tensor:
    """Features of images ``(T, B, ...)``, computed as one batch and normalised task by task."""
    with by_task(len(images), first):
        features: Tensor = body(fastest_layout(images.flatten(0, 1)))
    return features.view(*images.shape[:2], *features.shape[1:])


def _channels_last(images: Tensor) -> Tensor:
    """Images ``(T, B, C, H, W)`` with the memory layout ``(B, H, W, T, C)``."""
    return images.permute(1, 3, 4, 0, 2).contiguous().permute(3, 0, 4, 1, 2)


class VectorizedEngine(ChunkedEngine):
    """Several tasks at a time, on a GPU all of them."""

    name = "vectorized"
    kind = ManyTasks
    chunk = CHUNK

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, module in self.network.named_modules():
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                raise UserError(
                    f"model.backbone: {name} (Embedding) has a padding_idx, which PyTorch's vmap heeds in one task alone; set "
                    "model.engine=functional"
                )


ENGINE = VectorizedEngine
