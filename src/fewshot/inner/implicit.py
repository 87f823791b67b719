"""The outer gradient by the implicit function theorem: it depends on the adapted weights, not on the path to them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fewshot.inner.fast_weights import FastWeights, Gradients
from fewshot.inner.unrolled import plus, query_gradients
from fewshot.tasks.batch import TaskBatch

Vectors = Sequence[Tensor]


def implicit(engine: FastWeights, chunk: TaskBatch, tasks: int) -> tuple[Tensor, Tensor, Gradients]:
    """Implicit MAML (Rajeswaran, Finn, Kakade, Levine 2019, Algorithms 1 and 2).

    At a minimum phi of the support loss L plus ``lambda / 2 * |phi - theta|^2`` the condition

        c(phi, theta, rest) = dL/dphi + lambda (phi - theta) = 0

    holds for every start theta, so that the query loss's gradient g at phi reaches theta as ``lambda s`` and the rest of the
    parameters as ``-(dc/drest)^T s``, where s solves ``(H + lambda I) s = g`` with the Hessian H of L: the paper's
    ``(I + H / lambda)^-1 g`` (equation 6). `inner.cg_steps` steps of conjugate gradients solve it approximately, and
    `inner.steps` gradient steps approximate phi; both errors vanish with more steps.

    `inner.cg_damping` adds ``damping * lambda`` to the diagonal, for where H is not positive definite. The published code has
    1.0 there, divides H by ``lambda + 10``, and takes the pull to the start into one last step only; here it is part of every
    step, as in the paper.
    """
    inner = engine.inner
    *_, fast = engine.trajectory(chunk, inner.steps)
    losses, outputs, towards, direct = query_gradients(engine, fast, inner.steps, chunk, tasks)
    leaves = [weight.requires_grad_() for weight in fast]
    condition = engine.support_gradients(leaves, inner.steps - 1, chunk, second_order=True)

    def product(vectors: Vectors) -> Vectors:
        found = torch.autograd.grad(condition, leaves, vectors, retain_graph=True)
        damping = inner.cg_damping * inner.proximal
        return [h + damping * v for h, v in zip(found, vectors, strict=True)]

    solved = conjugate_gradient(product, towards, inner.cg_steps, engine.stacked)
    through = torch.autograd.grad(condition, engine.learned(chunk), [-s for s in solved], allow_unused=True)
    return losses, outputs, [plus(a, b) for a, b in zip(direct, through, strict=True)]


def conjugate_gradient(product: Callable[[Vectors], Vectors], right: Vectors, steps: int, stacked: bool) -> Vectors:
    """An approximate solution s of ``A s = right`` for positive definite A (Hestenes & Stiefel 1952), from s = 0.

    Args:
        product: A times a vector.
        right: right-hand side, a vector in parts of any shapes.
        steps: number of steps; a system whose residual is 0 no longer changes.
        stacked: the leading dimension of each part counts independent systems.
    """

    def dot(a: Vectors, b: Vectors) -> Tensor:
        parts = [(x * y).flatten(1).sum(1) if stacked else (x * y).sum() for x, y in zip(a, b, strict=True)]
        return torch.stack(parts).sum(0)

    def add_scaled(a: Vectors, factor: Tensor, b: Vectors) -> Vectors:
        return [x + (factor.view(-1, *[1] * (y.ndim - 1)) if stacked else factor) * y for x, y in zip(a, b, strict=True)]

    solution: Vectors = [torch.zeros_like(part) for part in right]
    residual = direction = right
    square = dot(residual, residual)
    for _ in range(steps):
        image = product(direction)
        curvature = dot(direction, image)
        # A solved system no longer changes while others go on.
        length = torch.where(square > 0, square / curvature, 0)
        solution = add_scaled(solution, length, direction)
        residual = add_scaled(residual, -length, image)
        before, square = square, dot(residual, residual)
        direction = add_scaled(residual, torch.where(before > 0, square / before, 0), direction)
    return solution
