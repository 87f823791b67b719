"""A meta-batch in chunks of tasks: side by side in threads, and as many at a time as memory holds."""

import logging
from abc import ABC
from collections.abc import Callable, Iterator
from functools import partial
from math import ceil
from queue import SimpleQueue
from typing import TypeVar

import torch
from torch import Tensor

from fewshot.inner.call import unfused_attention
from fewshot.inner.engine import Engine
from fewshot.inner.fast_weights import FastWeights, Gradients, add
from fewshot.inner.frozen_features import adaptation_path, outer_gradients
from fewshot.inner.threads import cores, replica, side_by_side
from fewshot.tasks.batch import TaskBatch

Result = TypeVar("Result")
Total = TypeVar("Total")

log = logging.getLogger(__name__)


class ChunkedEngine(Engine, ABC):
    """Computes chunks of tasks by fast weights.

    Attributes:
        kind: of the fast weights.
        chunk: largest number of tasks stacked in one operation. On a CPU a batch is at least two chunks, even on one core; on
            a GPU fast weights that are stacked take all tasks in one.
        bound: largest number of tasks in memory together; None sets no bound.
    """

    kind: type[FastWeights]
    chunk: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self.bound = self.inner.task_chunk

    @unfused_attention()
    def meta_gradient(self, batch: TaskBatch, tasks: int, outer_step: int = 0) -> tuple[Tensor, Tensor]:
        function = partial(outer_gradients, self.inner, tasks=tasks, outer_step=outer_step)
        losses, outputs, gradients = by_chunks(self, batch, function, _summed)
        outer = [p for p in (*self.network.parameters(), *self.rates.parameters()) if p.requires_grad]
        for parameter, gradient in zip(outer, add([p.grad for p in outer], gradients), strict=True):
            parameter.grad = gradient
        return losses, outputs

    @unfused_attention()
    def adaptation_path(self, batch: TaskBatch, steps: int) -> Tensor:
        return torch.cat(by_chunks(self, batch, partial(adaptation_path, self.inner, steps=steps), list))

    def tasks_at_once(self, batch: TaskBatch) -> int:
        size, workers = shares(self, batch)
        return min(size * workers, len(batch))


def by_chunks(
    engine: ChunkedEngine,
    batch: TaskBatch,
    function: Callable[[FastWeights, TaskBatch], Result],
    gather: Callable[[Iterator[Result]], Total],
) -> Total:
    """What `gather` makes of the results of a function for each chunk of a batch, in order.

    The division into chunks depends on the number and shape of the tasks alone, so results do not depend on the number of
    threads. When memory runs out, all is computed again with half as many tasks at once, from then on.

    Args:
        engine: whose network, and bound on tasks in memory.
        batch: tasks of one size.
        function: of the fast weights of a replica of the network, which no other thread calls, and of a chunk.
        gather: of the results, which it may drop one by one.
    """
    while True:
        size, workers = shares(engine, batch)
        try:
            return gather(side_by_side(_jobs(engine, batch, function, size, workers), workers))
        except RuntimeError as error:
            at_once = min(size * workers, len(batch))
            if at_once == 1 or not _is_out_of_memory(error):
                raise
        engine.bound = at_once // 2
        log.warning(
            f"Out of memory with {at_once} tasks at once: {engine.bound} from now on (model.inner.task_chunk={engine.bound}; "
            "model.inner.checkpoint_steps=true needs less)"
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def shares(engine: ChunkedEngine, batch: TaskBatch) -> tuple[int, int]:
    """Number of tasks in a chunk, and number of chunks computed at the same time."""
    bound = min(engine.bound or len(batch), len(batch))
    on_cpu = batch.support_x.device.type == "cpu"
    chunks = max(ceil(bound / engine.chunk), min(2, bound)) if on_cpu or not engine.kind.stacked else 1
    # With a bound, the chunks computed at the same time stay within it together.
    size = bound // chunks if bound < len(batch) else ceil(bound / chunks)
    return size, min(chunks, cores()) if on_cpu else 1


def _jobs(
    engine: ChunkedEngine,
    batch: TaskBatch,
    function: Callable[[FastWeights, TaskBatch], Result],
    size: int,
    workers: int,
) -> list[Callable[[], Result]]:
    free: SimpleQueue[FastWeights] = SimpleQueue()
    for _ in range(workers):
        free.put(engine.fast_weights(engine.kind, replica(engine.network)))

    def job(first: int) -> Result:
        weights = free.get()
        try:
            return function(weights, weights.prepared(batch.slice(first, first + size)))
        finally:
            free.put(weights)

    return [partial(job, first) for first in range(0, len(batch), size)]


def _summed(chunks: Iterator[tuple[Tensor, Tensor, Gradients]]) -> tuple[Tensor, Tensor, Gradients]:
    """Losses and outputs of all tasks, and their gradients added up in the order of the chunks."""
    of_losses, of_outputs, total = next(chunks)
    losses, outputs = [of_losses], [of_outputs]
    for of_losses, of_outputs, gradients in chunks:
        losses.append(of_losses)
        outputs.append(of_outputs)
        total = add(total, gradients)
    return torch.cat(losses), torch.cat(outputs), total


def _is_out_of_memory(error: RuntimeError) -> bool:
    """PyTorch raises a class of its own on a GPU, but a plain RuntimeError with a message on a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error)
