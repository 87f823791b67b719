"""Multi-class support vector machines of many tasks at once, differentiable at the optimum.

Crammer & Singer (2001), "On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines", in the dual form
that Lee et al. 2019 (appendix A) differentiate; solved by Mehrotra's predictor-corrector method (Nocedal & Wright 2006,
algorithm 16.4).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

ITERATIONS = 25
"""Interior-point steps: the same for every task, so that none depends on those beside it; ten to fifteen are what it needs."""
FLOOR = 1e-12
"""Complementarity that the iteration stops closing at: closer to the bounds nothing but rounding errors grow."""
RIDGE = 1e-9
"""Added to the kernel's diagonal, relative to its mean: copies of an image leave the dual solution undetermined."""


def svm_duals(kernel: Tensor, members: Tensor, cost: float) -> Tensor:
    """The dual variables alpha ``(T, B, N)`` of a linear classifier with weights ``sum_i alpha_ik x_i`` for class k.

    They minimise

        1/2 sum_k |w_k|^2 + sum_ik (1 - y_ik) alpha_ik    subject to    alpha_ik <= cost * y_ik,    sum_k alpha_ik = 0,

    the dual of ``1/2 sum_k |w_k|^2 + cost sum_i max_k (1 - y_ik + (w_k - w_{y_i}) x_i)``. The derivative by the kernel
    is that of the optimum (implicit function theorem), not of the iteration.

    Args:
        kernel: products of the support set's features, ``(T, B, B)``; in double precision, for the optimum is found by closing
            a gap to its last digits.
        members: y, ``(T, B, N)``, 1 for an image's class and 0 for others.
        cost: C, of a violated margin.
    """
    with torch.no_grad():
        ridge = RIDGE * kernel.diagonal(dim1=1, dim2=2).mean(dim=1)
        eye = torch.eye(kernel.shape[1], dtype=kernel.dtype, device=kernel.device)
        regular = kernel.detach() + ridge[:, None, None] * eye
        alpha, system = _optimum(regular, members, cost)
    # One Newton step more, which is 0 but whose derivative by the kernel is that of the optimum.
    step, _ = system.solve(-(kernel @ alpha), torch.zeros_like(alpha[..., 0]))
    return alpha + step - step.detach()


@dataclass(frozen=True)
class _System:
    """``(kernel + D_k) dz_k + dnu = g_k`` for every class and ``sum_k dz_k = e``: a Newton step's linear equations.

    Attributes:
        inverses: of kernel + D_k, ``(T, N, B, B)``
        schur: inverse of their sum, ``(T, B, B)``
    """

    inverses: Tensor
    schur: Tensor

    @classmethod
    def of(cls, kernel: Tensor, diagonal: Tensor) -> "_System":
        inverses = torch.cholesky_inverse(torch.linalg.cholesky(kernel.unsqueeze(1) + torch.diag_embed(diagonal.mT)))
        return cls(inverses, torch.cholesky_inverse(torch.linalg.cholesky(inverses.sum(dim=1))))

    def solve(self, g: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """The unknowns: dz ``(T, B, N)`` and dnu ``(T, B)``."""
        free = (self.inverses @ g.mT.unsqueeze(-1)).squeeze(-1)
        dnu = (self.schur @ (free.sum(dim=1) - e).unsqueeze(-1)).squeeze(-1)
        held = (self.inverses @ dnu[:, None, :, None]).squeeze(-1)
        return (free - held).mT, dnu


def _optimum(kernel: Tensor, members: Tensor, cost: float) -> tuple[Tensor, _System]:
    """The solution, and the linear equations at it."""
    ways = members.shape[-1]
    bounds, linear = cost * members, 1 - members
    z = cost / 2 * (members - (1 - members) / (ways - 1))  # halfway to the bounds, and its rows add up to 0
    slack = bounds - z
    multipliers, nu = torch.ones_like(z), torch.zeros_like(z[..., 0])
    system = _System.of(kernel, multipliers / slack)
    for _ in range(ITERATIONS):
        dual = kernel @ z + linear + multipliers + nu.unsqueeze(-1)
        primal, balance = z + slack - bounds, z.sum(dim=-1)

        def newton(target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            """The step after which complementarity is `target` below what it is."""
            g = -dual + (target - multipliers * primal) / slack  # noqa: B023  called in this turn alone
            dz, dnu = system.solve(g, -balance)  # noqa: B023
            dslack = -primal - dz  # noqa: B023
            return dz, dslack, (-target - multipliers * dslack) / slack, dnu  # noqa: B023

        complementarity = multipliers * slack
        gap = complementarity.mean(dim=(1, 2), keepdim=True)
        _, dslack, dmultipliers, _ = newton(complementarity)
        length = _length(slack, dslack, multipliers, dmultipliers)
        reached = ((slack + length * dslack) * (multipliers + length * dmultipliers)).mean(dim=(1, 2), keepdim=True)
        aim = (gap * (reached / gap) ** 3).clamp(min=FLOOR)
        dz, dslack, dmultipliers, dnu = newton(complementarity + dslack * dmultipliers - aim)
        length = 0.99 * _length(slack, dslack, multipliers, dmultipliers)
        z, slack, multipliers = z + length * dz, slack + length * dslack, multipliers + length * dmultipliers
        nu = nu + length.squeeze(-1) * dnu
        system = _System.of(kernel, multipliers / slack)
    return z, system


def _length(slack: Tensor, dslack: Tensor, multipliers: Tensor, dmultipliers: Tensor) -> Tensor:
    """How far each task may go along a step, at most 1, until a slack or multiplier is 0: ``(T, 1, 1)``."""
    values, changes = torch.cat([slack, multipliers], dim=-1), torch.cat([dslack, dmultipliers], dim=-1)
    lengths = torch.where(changes < 0, -values / changes, torch.ones_like(values))
    return lengths.amin(dim=(1, 2), keepdim=True).clamp(max=1)
