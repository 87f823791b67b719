"""The outer gradient of Reptile: initial weights minus adapted weights."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import torch
from torch import Tensor

from fewshot.errors import check_int
from fewshot.inner.fast_weights import FastWeights, Gradients
from fewshot.inner.inner_loop import InnerLoop
from fewshot.tasks.batch import TaskBatch
from fewshot.tasks.streams import stream_key, uniforms


@dataclass(frozen=True)
class Reptile(InnerLoop):
    """Reptile (Nichol, Achiam, Schulman 2018, Algorithm 2): theta - phi, averaged over tasks.

    Gradient descent with this gradient at rate epsilon is the paper's interpolation ``theta + epsilon * mean(phi - theta)``.
    Reptile has no query set: the inner loop trains on support and query images alike, in mini-batches (section 6 and the
    published code), so the query losses and outputs of a training step are of images that the inner loop trained on.

    An optimizer with state (the paper's Adam with beta1 = 0) starts anew for each task, so that no task depends on another.
    The published code carries Adam's second moments from task to task, and into the evaluation.

    Attributes:
        optimizer: makes the optimizer of the steps from weights and ``lr``, one that works element by element.
        batch_size: images of a step, drawn in turn from shuffled ones; None takes all.
        eval_batch_size: the same in validation and test.
    """

    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.SGD
    batch_size: int | None = None
    eval_batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("batch_size", "eval_batch_size"):
            if getattr(self, key) is not None:
                check_int(f"model.inner.{key}", getattr(self, key), least=1)

    def outer_gradients(
        self, weights: FastWeights, chunk: TaskBatch, tasks: int, outer_step: int
    ) -> tuple[Tensor, Tensor, Gradients]:
        together = replace(
            chunk,
            support_x=torch.cat([chunk.support_x, chunk.query_x], dim=1),
            support_y=torch.cat([chunk.support_y, chunk.query_y], dim=1),
        )
        begin = weights.start(chunk)
        *_, fast = self._trained(weights, together, self.steps, self.batch_size)
        with torch.no_grad():
            outputs = weights.query_outputs_after(self.steps, fast, chunk)
            losses = weights.losses(outputs, chunk.query_y)
            away = [(b - f) / tasks for b, f in zip(begin, fast, strict=True)]
        # Backward through the initial weights adds up the gradients of all tasks: each parameter starts every task's weights.
        return losses, outputs, list(torch.autograd.grad(begin, weights.outer, away, allow_unused=True))

    def trajectory(self, weights: FastWeights, chunk: TaskBatch, steps: int) -> Iterator[list[Tensor]]:
        return self._trained(weights, chunk, steps, self.eval_batch_size)

    def _trained(self, weights: FastWeights, chunk: TaskBatch, steps: int, batch_size: int | None) -> Iterator[list[Tensor]]:
        """The fast weights before training on the support set and after each step, detached from the graph."""
        with torch.no_grad():
            fast = [weight.detach().clone() for weight in weights.start(chunk)]
        optimizer = self.optimizer(fast, lr=self.lr)
        for step, part in enumerate(_parts(chunk, steps, batch_size)):
            yield [weight.clone() for weight in fast]
            with torch.enable_grad():
                leaves = [weight.detach().requires_grad_() for weight in fast]
                gradients = weights.support_gradients(leaves, step, part, second_order=False)
            for weight, gradient in zip(fast, gradients, strict=True):
                weight.grad = gradient.detach()
            optimizer.step()
        yield fast

    @property
    def description(self) -> dict[str, Any]:
        optimizer = getattr(self.optimizer, "func", self.optimizer).__name__
        return {**super().description, "order": 1, "inner_optimizer": optimizer, "outer_gradient": "displacement"}


def _parts(chunk: TaskBatch, steps: int, batch_size: int | None) -> Iterator[TaskBatch]:
    """The part of the support set for each step: all of it, or a mini-batch."""
    if batch_size is None:
        yield from [chunk] * steps
        return
    rows = shuffled_rows(chunk.index.tolist(), chunk.support_y.shape[1], batch_size, steps)
    tasks = torch.arange(len(chunk))[:, None]
    for of_step in rows.to(chunk.support_x.device).unbind(1):
        yield replace(chunk, support_x=chunk.support_x[tasks, of_step], support_y=chunk.support_y[tasks, of_step])


def shuffled_rows(index: Sequence[int], rows: int, size: int, steps: int) -> Tensor:
    """Rows of the mini-batch of each step of each task: shuffled epochs over the support set, one after another.

    A pure function: task number `i` has the same mini-batches in any process, at any time.

    Args:
        index: ``(T,)`` numbers of the tasks.
        rows: number of rows of the support set.
        size: rows of a mini-batch; one larger than `rows` has some rows more than once.
        steps: number of mini-batches of a task.

    Returns:
        ``(T, steps, size)`` row numbers.
    """
    decks = ceil(steps * size / rows)
    keys = torch.from_numpy(uniforms(stream_key("inner batches", rows), index, decks * rows))
    return keys.view(len(index), decks, rows).argsort(dim=-1).flatten(1)[:, : steps * size].view(len(index), steps, size)
