"""Logistic regression on features, fitted to each support set by Newton's method: no outer step (`FeatureHead`)."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot.errors import check_positive
from fewshot.models.feature_head import FeatureHead, in_span
from fewshot.objectives import one_hot

STEPS, CG_STEPS = 50, 200
"""At the most, of Newton's method and of the conjugate gradients in each."""
CLOSE = 1e-9
"""Largest gradient where it ends, as a share of the first."""
HALVINGS = 20
"""Of a step that would not go down."""


class LogisticRegression(FeatureHead):
    """Outputs are ``W x + b`` at the minimum of ``|W|^2 / 2 + strength * sum of the support set's cross-entropies``.

    As in scikit-learn, with ``strength`` its C: all classes have weights, and the intercepts b are not penalised. Two classes
    have opposite weights, whose difference scikit-learn penalises: ``|W|^2`` then.

    Args:
        strength: of the support set against the penalty.
        head: what all heads take (`FeatureHead`).
    """

    def __init__(self, strength: float, **head: Any) -> None:
        check_positive("model.strength", strength)
        super().__init__(**head)
        self._strength = strength

    def fit(self, support: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        mean, basis, rows = in_span(support)
        targets = one_hot(labels, support)
        strength = self._strength / 2 if targets.shape[-1] == 2 else self._strength
        found = minimum(F.pad(rows, (0, 1), value=1.0), targets, strength)
        weights = basis @ found[:, :-1]
        return weights, found[:, -1:] - mean @ weights

    def outputs(self, head: tuple[Tensor, ...], query: Tensor) -> Tensor:
        weights, intercept = head
        return query @ weights + intercept


@torch.no_grad()
def minimum(rows: Tensor, targets: Tensor, strength: float) -> Tensor:
    """Weights ``(T, R+1, N)``, the intercepts last.

    Args:
        rows: ``(T, S, R+1)``, of which the last column is 1.
        targets: ``(T, S, N)``, a 1 among 0s.
        strength: of the cross-entropies.
    """
    penalised = torch.ones_like(rows[:, :1]).mT
    penalised[:, -1] = 0
    weights = rows.new_zeros(len(rows), rows.shape[-1], targets.shape[-1])

    def value(weights: Tensor) -> Tensor:
        losses = torch.logsumexp(rows @ weights, dim=-1) - (targets * (rows @ weights)).sum(dim=-1)
        return (penalised * weights.square()).sum(dim=(1, 2)) / 2 + strength * losses.sum(dim=1)

    first = None
    for _ in range(STEPS):
        shares = (rows @ weights).softmax(dim=-1)
        gradient = penalised * weights + strength * (rows.mT @ (shares - targets))
        size = gradient.abs().amax(dim=(1, 2))
        first = size if first is None else first
        if bool((size <= CLOSE * first).all()):
            break

        def curved(direction: Tensor, shares: Tensor = shares) -> Tensor:
            along = shares * (rows @ direction)
            return penalised * direction + strength * (rows.mT @ (along - shares * along.sum(dim=-1, keepdim=True)))

        step = conjugate_gradients(curved, -gradient)
        slope, start = (gradient * step).sum(dim=(1, 2)), value(weights)
        length = torch.ones_like(start)
        for _ in range(HALVINGS):
            # what rounding leaves of a last step is no reason to halve it
            too_far = value(weights + length[:, None, None] * step) > start + 1e-4 * length * slope + 1e-12 * start.abs()
            if not bool(too_far.any()):
                break
            length = torch.where(too_far, length / 2, length)
        weights = weights + length[:, None, None] * step
    return weights


def conjugate_gradients(curved: Callable[[Tensor], Tensor], target: Tensor) -> Tensor:
    """The solution of ``curved(x) = target`` of each task, with a sum of 0 over the classes, along which nothing is curved."""
    x, rest = torch.zeros_like(target), target - target.mean(dim=-1, keepdim=True)
    direction, size = rest, rest.square().sum(dim=(1, 2), keepdim=True)
    enough, tiny = 1e-16 * size, torch.finfo(x.dtype).tiny
    for _ in range(CG_STEPS):
        if bool((size <= enough).all()):
            break
        image = curved(direction)
        curvature = (direction * image).sum(dim=(1, 2), keepdim=True)
        length = torch.where((size <= enough) | (curvature <= 0), 0.0, size / curvature.clamp(min=tiny))
        x, rest = x + length * direction, rest - length * image
        rest = rest - rest.mean(dim=-1, keepdim=True)
        new = rest.square().sum(dim=(1, 2), keepdim=True)
        direction, size = rest + new / size.clamp(min=tiny) * direction, new
    return x
