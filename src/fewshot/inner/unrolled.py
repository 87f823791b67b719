"""The outer gradient through all inner steps, with the graphs of all steps in memory, or of one at a time."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fewshot.inner.fast_weights import FastWeights, Gradients
from fewshot.tasks.batch import TaskBatch


def unrolled(engine: FastWeights, chunk: TaskBatch, tasks: int, outer_step: int) -> tuple[Tensor, Tensor, Gradients]:
    """Query losses, outputs and outer gradients of a chunk, by one backward pass through all steps."""
    inner, fast, parts = engine.inner, engine.start(chunk), []
    for step, weight in enumerate(inner.loss_weights(outer_step)):
        fast = engine.step(fast, step, chunk, inner.second_order(outer_step))
        if weight:
            outputs = engine.queries_after(step + 1, fast, chunk)
            losses = engine.losses(outputs, chunk.query_y)
            parts.append(weight * losses.sum() / tasks)
    gradients = torch.autograd.grad(torch.stack(parts).sum(), engine.learned(chunk), allow_unused=True)
    return losses.detach(), outputs.detach(), list(gradients)


def step_by_step(engine: FastWeights, chunk: TaskBatch, tasks: int, outer_step: int) -> tuple[Tensor, Tensor, Gradients]:
    """As `unrolled`, with the graph of one step in memory at a time: the backward pass recomputes each step.

    Checkpointed reverse-mode differentiation (Griewank & Walther 2008, chapter 12): only the weights between steps are kept.
    """
    inner, outer = engine.inner, engine.learned(chunk)
    path = list(engine.trajectory(chunk, inner.steps))
    losses, outputs, towards, total = query_gradients(engine, path[-1], inner.steps, chunk, tasks)
    weights = inner.loss_weights(outer_step)
    towards, total = [weights[-1] * g for g in towards], [None if g is None else weights[-1] * g for g in total]
    for step in reversed(range(inner.steps)):
        leaves = [weight.requires_grad_() for weight in path[step]]
        after = engine.step(leaves, step, chunk, inner.second_order(outer_step))
        found = torch.autograd.grad(after, [*leaves, *outer], towards, allow_unused=True)
        towards, more = _split(found, leaves)
        total = [plus(a, b) for a, b in zip(total, more, strict=True)]
        if step and weights[step - 1]:
            _, _, of_fast, more = query_gradients(engine, path[step], step, chunk, tasks)
            towards = [a + weights[step - 1] * b for a, b in zip(towards, of_fast, strict=True)]
            total = [plus(a, None if b is None else weights[step - 1] * b) for a, b in zip(total, more, strict=True)]
    found = torch.autograd.grad(engine.start(chunk), outer, towards, allow_unused=True)
    return losses, outputs, [plus(a, b) for a, b in zip(total, found, strict=True)]


def query_gradients(
    engine: FastWeights, fast: Sequence[Tensor], steps: int, chunk: TaskBatch, tasks: int
) -> tuple[Tensor, Tensor, list[Tensor], Gradients]:
    """Query losses and outputs after a number of steps, their gradients with respect to fast weights and `learned`."""
    leaves = [weight.requires_grad_() for weight in fast]
    outputs = engine.queries_after(steps, leaves, chunk)
    losses = engine.losses(outputs, chunk.query_y)
    found = torch.autograd.grad(losses.sum() / tasks, [*leaves, *engine.learned(chunk)], allow_unused=True)
    return losses.detach(), outputs.detach(), *_split(found, leaves)


def _split(gradients: Sequence[Tensor | None], fast: Sequence[Tensor]) -> tuple[list[Tensor], Gradients]:
    """Gradients of the fast weights (0 where no output depends on one), and of the outer loop's parameters."""
    of_fast = zip(fast, gradients, strict=False)
    return [torch.zeros_like(weight) if g is None else g for weight, g in of_fast], list(gradients[len(fast) :])


def plus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """The sum of two gradients, either of which may be None."""
    return b if a is None else a if b is None else a + b
