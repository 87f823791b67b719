"""The outer gradient of Reptile: initial weights minus adapted weights."""

from dataclasses import replace

import torch
from torch import Tensor

from fewshot.inner.fast_weights import FastWeights, Gradients
from fewshot.tasks.batch import TaskBatch


def displacement(engine: FastWeights, chunk: TaskBatch, tasks: int) -> tuple[Tensor, Tensor, Gradients]:
    """Reptile (Nichol, Achiam, Schulman 2018, Algorithm 2): theta - phi, averaged over tasks.

    Gradient descent with this gradient at rate epsilon is the paper's interpolation ``theta + epsilon * mean(phi - theta)``.
    Reptile has no query set: the inner loop trains on support and query images alike, in mini-batches (section 6 and the
    published code), so the query losses and outputs returned here are of images that the inner loop trained on.

    An optimizer with state (the paper's Adam with beta1 = 0) starts anew for each task, so that no task depends on another.
    The published code carries Adam's second moments from task to task, and into the evaluation.
    """
    together = replace(
        chunk,
        support_x=torch.cat([chunk.support_x, chunk.query_x], dim=1),
        support_y=torch.cat([chunk.support_y, chunk.query_y], dim=1),
    )
    begin = engine.start(chunk)
    *_, fast = engine.trajectory(together, engine.inner.steps, engine.inner.batch_size)
    with torch.no_grad():
        outputs = engine.queries_after(engine.inner.steps, fast, chunk)
        losses = engine.losses(outputs, chunk.query_y)
        away = [(b - f) / tasks for b, f in zip(begin, fast, strict=True)]
    # Backward through the initial weights adds up the gradients of all tasks: each parameter starts every task's fast weights.
    return losses, outputs, list(torch.autograd.grad(begin, engine.outer, away, allow_unused=True))
