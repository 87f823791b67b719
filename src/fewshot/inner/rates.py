"""Inner learning rates, fixed or learned by the outer loop."""

import torch
from torch import Tensor, nn

from fewshot.inner.loop import InnerLoop


class InnerRates(nn.Module):
    """The rate of each adapted parameter at each step.

    Learned rates start from `inner.lr`. A step beyond those trained uses the rates of the last trained one.

    Args:
        inner: what the inner loop does.
        network: whose parameters it adapts.
    """

    def __init__(self, inner: InnerLoop, network: nn.Module) -> None:
        super().__init__()
        self._inner = inner
        shapes = [p.shape for p, adapted in zip(network.parameters(), inner.adapted(network), strict=True) if adapted]
        self._count = len(shapes)
        like = next(network.parameters())
        learned: list[Tensor] = []
        if inner.rates == "per_step":
            learned = [torch.full((inner.steps, len(shapes)), inner.lr, dtype=like.dtype)]
        elif inner.rates == "per_element":
            learned = [torch.full(shape, inner.lr, dtype=like.dtype) for shape in shapes]
        self.learned = nn.ParameterList(nn.Parameter(values) for values in learned)

    def at(self, step: int) -> list[float | Tensor]:
        """The rate of each adapted parameter, in the order of ``network.parameters()``, at step 0, 1, ..."""
        if self._inner.rates == "fixed":
            return [self._inner.lr] * self._count
        if self._inner.rates == "per_step":
            return list(self.learned[0][min(step, self._inner.steps - 1)])
        return list(self.learned)
