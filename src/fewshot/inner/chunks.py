"""The meta-gradient of a meta-batch, a chunk of tasks at a time, as many as memory holds."""

import logging
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from fewshot.inner.displacement import displacement
from fewshot.inner.fast_weights import FastWeights, Gradients
from fewshot.inner.implicit import implicit
from fewshot.inner.unrolled import step_by_step, unrolled
from fewshot.tasks import TaskBatch

log = logging.getLogger(__name__)


class FastWeightsEngine(FastWeights):
    """Adds up the outer gradients of chunks, and halves the chunks when memory runs out."""

    def meta_gradient(self, batch: TaskBatch, tasks: int, outer_step: int = 0) -> tuple[Tensor, Tensor]:
        gradient = self._outer_gradient(outer_step)
        results, done = [], 0
        while done < len(batch):
            size = min(self.tasks_at_once(batch), len(batch) - done)
            try:
                losses, outputs, gradients = gradient(self.prepared(batch.slice(done, done + size)), tasks)
            except RuntimeError as error:
                if size == 1 or not _is_out_of_memory(error):
                    raise
                self._halve(size)
                continue
            # Only now, so that a chunk that ran out of memory has left nothing.
            for parameter, of_chunk in zip(self.outer, gradients, strict=True):
                if of_chunk is not None:
                    parameter.grad = of_chunk if parameter.grad is None else parameter.grad + of_chunk
            results.append((losses, outputs))
            done += size
        all_losses, all_outputs = zip(*results, strict=True)
        return torch.cat(all_losses), torch.cat(all_outputs)

    def tasks_at_once(self, batch: TaskBatch) -> int:
        return min(self.chunk or len(batch), len(batch))

    def _outer_gradient(self, outer_step: int) -> Callable[[TaskBatch, int], tuple[Tensor, Tensor, Gradients]]:
        """What turns some tasks, and the number of all, into their losses, outputs and outer gradients."""
        if self.inner.outer == "implicit":
            return partial(implicit, self)
        if self.inner.outer == "displacement":
            return partial(displacement, self)
        return partial(step_by_step if self.inner.checkpoint_steps else unrolled, self, outer_step=outer_step)

    def _halve(self, size: int) -> None:
        self.chunk = size // 2
        log.warning(
            f"Out of memory with {size} tasks at once: {self.chunk} from now on (model.inner.task_chunk={self.chunk}; "
            "model.inner.checkpoint_steps=true needs less)"
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _is_out_of_memory(error: RuntimeError) -> bool:
    """On a GPU PyTorch has a class for it; on a CPU it has words."""
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error)
