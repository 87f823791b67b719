"""Learning rates and transforms of the inner gradients, fixed or learned by the outer loop."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fewshot.inner.inner_loop import InnerLoop
from fewshot.inner.transforms import Kronecker, MetaCurvature

TRANSFORMS: dict[str, type[MetaCurvature] | type[Kronecker]] = {"meta_curvature": MetaCurvature, "kronecker": Kronecker}


class InnerRates(nn.Module):
    """The learning rate of each adapted parameter at each step, and the transform of its gradients.

    Learned rates start from `inner.lr`. A step beyond those trained uses the rates of the last trained one.

    Args:
        inner: the settings of the inner loop.
        network: the network whose parameters are adapted.
    """

    def __init__(self, inner: InnerLoop, network: nn.Module) -> None:
        super().__init__()
        self._inner = inner
        adapted = [p for p, chosen in zip(network.parameters(), inner.adapted(network), strict=True) if chosen]
        self._count = len(adapted)
        like = adapted[0]
        learned: list[Tensor] = []
        if inner.rates == "per_step":
            learned = [torch.full((inner.steps, len(adapted)), inner.lr, dtype=like.dtype)]
        elif inner.rates == "per_element":
            learned = [torch.full(p.shape, inner.lr, dtype=like.dtype) for p in adapted]
        self.learned = nn.ParameterList(nn.Parameter(values) for values in learned)
        transform = TRANSFORMS.get(inner.transform)
        self.transforms = nn.ModuleList(transform(p.detach()) for p in adapted) if transform else None

    def at(self, step: int) -> list[float | Tensor]:
        """The rate of each adapted parameter, in the order of ``network.parameters()``, at step 0, 1, ..."""
        if self._inner.rates == "fixed":
            return [self._inner.lr] * self._count
        if self._inner.rates == "per_step":
            return list(self.learned[0][min(step, self._inner.steps - 1)])
        return list(self.learned)

    def transformed(self, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        """The gradient of each adapted parameter, perhaps with a leading dimension of tasks, transformed."""
        if self.transforms is None:
            return gradients
        return [transform(gradient) for transform, gradient in zip(self.transforms, gradients, strict=True)]
