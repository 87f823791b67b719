"""Learning rates and transforms of the inner gradients, fixed or learned by the outer loop."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fewshot.inner.transforms import Kronecker, MetaCurvature

TRANSFORMS: dict[str, type[MetaCurvature] | type[Kronecker]] = {"meta_curvature": MetaCurvature, "kronecker": Kronecker}
"""By the value of ``model.inner.transform``; ``none`` has none."""


class InnerRates(nn.Module):
    """The learning rate of each adapted parameter at each step, and the transform of its gradients.

    Learned rates start from `lr`. A step beyond those trained uses the rates of the last trained one.

    Args:
        adapted: the parameters that tasks adapt, in the order of ``network.parameters()``.
        lr: inner learning rate.
        steps: adaptation steps in training.
        rates: ``fixed``, or learned ``per_step`` or ``per_element`` (`fewshot.inner.unrolled.Unrolled`).
        transform: ``none``, ``meta_curvature`` or ``kronecker``, likewise.
    """

    def __init__(
        self, adapted: Sequence[nn.Parameter], lr: float, steps: int, rates: str = "fixed", transform: str = "none"
    ) -> None:
        super().__init__()
        self._count, self._lr, self._steps, self._rates = len(adapted), lr, steps, rates
        like = adapted[0]
        learned: list[Tensor] = []
        if rates == "per_step":
            learned = [torch.full((steps, len(adapted)), lr, dtype=like.dtype)]
        elif rates == "per_element":
            learned = [torch.full(p.shape, lr, dtype=like.dtype) for p in adapted]
        self.learned = nn.ParameterList(nn.Parameter(values) for values in learned)
        kind = TRANSFORMS.get(transform)
        self.transforms = nn.ModuleList(kind(p.detach()) for p in adapted) if kind else None

    def at(self, step: int) -> list[float | Tensor]:
        """The rate of each adapted parameter, in their order, at step 0, 1, ..."""
        if self._rates == "fixed":
            return [self._lr] * self._count
        if self._rates == "per_step":
            return list(self.learned[0][min(step, self._steps - 1)])
        return list(self.learned)

    def transformed(self, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        """The gradient of each adapted parameter, perhaps with a leading dimension of tasks, transformed."""
        if self.transforms is None:
            return gradients
        return [transform(gradient) for transform, gradient in zip(self.transforms, gradients, strict=True)]
