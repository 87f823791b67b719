"""The outer gradient by the implicit function theorem: it depends on the adapted weights, not on the path to them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewshot.errors import check_int, check_positive
from fewshot.inner.fast_weights import FastWeights, Gradients, add
from fewshot.inner.inner_loop import InnerLoop
from fewshot.tasks.batch import TaskBatch

Vectors = Sequence[Tensor]


@dataclass(frozen=True)
class Implicit(InnerLoop):
    """Implicit MAML (Rajeswaran, Finn, Kakade, Levine 2019, Algorithms 1 and 2).

    At a minimum phi of the support loss L plus ``lambda / 2 * |phi - theta|^2`` the condition

        c(phi, theta, rest) = dL/dphi + lambda (phi - theta) = 0

    holds for every start theta, so that the query loss's gradient g at phi reaches theta as ``lambda s`` and the rest of the
    parameters as ``-(dc/drest)^T s``, where s solves ``(H + lambda I) s = g`` with the Hessian H of L: the paper's
    ``(I + H / lambda)^-1 g`` (equation 6). `cg_steps` steps of conjugate gradients solve it approximately, and `steps` gradient
    steps approximate phi; both errors vanish with more steps. The published code takes the pull to the start (`proximal`) into
    one last step only; here it is part of every step, as in the paper.

    Attributes:
        cg_steps: conjugate-gradient steps.
        cg_damping: ``damping * lambda`` is added to the diagonal of the system, for where H is not positive definite. The
            published code has 1.0 there, and divides H by ``lambda + 10``.
    """

    proximal: float = 1.0
    cg_steps: int = 5
    cg_damping: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("model.inner.proximal", self.proximal)
        check_int("model.inner.cg_steps", self.cg_steps, least=1)
        if self.cg_damping != 0:
            check_positive("model.inner.cg_damping", self.cg_damping)

    def outer_gradients(
        self, weights: FastWeights, chunk: TaskBatch, tasks: int, outer_step: int
    ) -> tuple[Tensor, Tensor, Gradients]:
        *_, fast = weights.gradient_descent(chunk, self.steps)
        losses, outputs, towards, direct = weights.query_gradients(fast, self.steps, chunk, tasks)
        leaves = [weight.requires_grad_() for weight in fast]
        condition = weights.support_gradients(leaves, self.steps - 1, chunk, second_order=True)

        def product(vectors: Vectors) -> Vectors:
            found = torch.autograd.grad(condition, leaves, vectors, retain_graph=True)
            damping = self.cg_damping * self.proximal
            return [h + damping * v for h, v in zip(found, vectors, strict=True)]

        solved = conjugate_gradient(product, towards, self.cg_steps, weights.stacked)
        through = torch.autograd.grad(condition, weights.learned(chunk), [-s for s in solved], allow_unused=True)
        return losses, outputs, add(direct, list(through))

    @property
    def description(self) -> dict[str, Any]:
        return {**super().description, "outer_gradient": "implicit"}


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
