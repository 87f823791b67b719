"""Computes the meta-gradient of a meta-batch in chunks of tasks, as many at a time as memory holds."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from math import ceil
from queue import SimpleQueue
from typing import TypeVar

import torch
from torch import Tensor, nn

from fewshot.inner.call import unfused_attention
from fewshot.inner.fast_weights import FastWeights, Gradients
from fewshot.inner.frozen_features import split, through_body
from fewshot.inner.implicit import implicit
from fewshot.inner.reptile import displacement
from fewshot.inner.threads import cores, replica, side_by_side
from fewshot.inner.unrolled import plus, step_by_step, unrolled
from fewshot.tasks.batch import TaskBatch

Result = TypeVar("Result")

log = logging.getLogger(__name__)


class FastWeightsEngine(FastWeights):
    """Adapts to one chunk of tasks at a time, on a CPU to several chunks in threads; takes fewer tasks when memory runs out.

    The division into chunks depends on the number and shape of the tasks alone, so results do not depend on the number of
    threads.

    Attributes:
        chunk: largest number of tasks stacked in one operation. On a CPU a batch is at least two chunks, even on one core; on
            a GPU an engine that stacks tasks takes all of them in one.
        bound: largest number of tasks in memory together; None sets no bound.
    """

    chunk: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self.bound = self.inner.task_chunk
        parts = split(self)
        self._split: tuple[nn.Module, FastWeightsEngine] | None = None
        if parts is not None:
            body, head = parts
            self._split = body, self.copy_as(type(self), network=head)

    @unfused_attention()
    def meta_gradient(self, batch: TaskBatch, tasks: int, outer_step: int = 0) -> tuple[Tensor, Tensor]:
        def summed() -> tuple[list[Tensor], list[Tensor], Gradients]:
            losses, outputs = [], []
            total: Gradients = [None] * len(self.outer)
            found = self._by_chunks(batch, lambda engine, part: engine.outer_gradients(part, tasks, outer_step))
            for of_losses, of_outputs, gradients in found:
                losses.append(of_losses)
                outputs.append(of_outputs)
                total = [plus(a, b) for a, b in zip(total, gradients, strict=True)]
            return losses, outputs, total

        losses, outputs, total = self._in_memory(batch, summed)
        for parameter, found in zip(self.outer, total, strict=True):
            parameter.grad = plus(parameter.grad, found)
        return torch.cat(losses), torch.cat(outputs)

    @unfused_attention()
    def adaptation_path(self, batch: TaskBatch, steps: int) -> Tensor:
        paths = self._in_memory(batch, lambda: list(self._by_chunks(batch, lambda engine, part: engine.path(part, steps))))
        return torch.cat(paths)

    def path(self, chunk: TaskBatch, steps: int) -> Tensor:
        if self._split is None:
            return super().path(chunk, steps)
        body, head = self._split
        with torch.no_grad():
            features = self.embedded(body, chunk)
        return head.path(chunk.with_inputs(*features), steps)

    def tasks_at_once(self, batch: TaskBatch) -> int:
        size, workers = self._shares(batch)
        return min(size * workers, len(batch))

    def _shares(self, batch: TaskBatch) -> tuple[int, int]:
        """Number of tasks in a chunk, and number of chunks computed at the same time."""
        bound = min(self.bound or len(batch), len(batch))
        on_cpu = batch.support_x.device.type == "cpu"
        chunks = max(ceil(bound / self.chunk), min(2, bound)) if on_cpu or not self.stacked else 1
        # With a bound, the chunks computed at the same time stay within it together.
        size = bound // chunks if bound < len(batch) else ceil(bound / chunks)
        return size, min(chunks, cores()) if on_cpu else 1

    def _by_chunks(self, batch: TaskBatch, function: Callable[["FastWeightsEngine", TaskBatch], Result]) -> Iterator[Result]:
        """Results of a function of an engine and a chunk, for each chunk in order."""
        size, workers = self._shares(batch)
        free: SimpleQueue[FastWeightsEngine] = SimpleQueue()
        for _ in range(workers):
            free.put(self.copy_as(type(self), network=replica(self.network)))

        def job(first: int) -> Result:
            engine = free.get()
            try:
                return function(engine, engine.prepared(batch.slice(first, first + size)))
            finally:
                free.put(engine)

        return side_by_side([partial(job, first) for first in range(0, len(batch), size)], workers)

    def _in_memory(self, batch: TaskBatch, function: Callable[[], Result]) -> Result:
        """Calls a function again with half as many tasks at once for as long as memory runs out."""
        while True:
            try:
                return function()
            except RuntimeError as error:
                at_once = self.tasks_at_once(batch)
                if at_once == 1 or not _is_out_of_memory(error):
                    raise
            self._halve(at_once)

    def outer_gradients(self, chunk: TaskBatch, tasks: int, outer_step: int) -> tuple[Tensor, Tensor, Gradients]:
        if self._split is not None:
            return through_body(self, *self._split, chunk, tasks, outer_step)
        if self.inner.outer == "implicit":
            return implicit(self, chunk, tasks)
        if self.inner.outer == "displacement":
            return displacement(self, chunk, tasks)
        return (step_by_step if self.inner.checkpoint_steps else unrolled)(self, chunk, tasks, outer_step)

    def _halve(self, size: int) -> None:
        self.bound = size // 2
        log.warning(
            f"Out of memory with {size} tasks at once: {self.bound} from now on (model.inner.task_chunk={self.bound}; "
            "model.inner.checkpoint_steps=true needs less)"
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _is_out_of_memory(error: RuntimeError) -> bool:
    """PyTorch raises a class of its own on a GPU, but a plain RuntimeError with a message on a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error)
