"""Gradients held against central differences, in double precision."""

from collections import defaultdict
from collections.abc import Callable, Iterable

import pytest
import torch


def require_slopes(
    named: Iterable[tuple[str, torch.Tensor]], function: Callable[[], torch.Tensor], step: float, rel: float, abs: float
) -> None:
    """What lies in ``.grad`` is the slope of ``function()``, along one direction in all parameters of each module at once.

    Args:
        named: parameters by name; one without a gradient has none.
        step: of the differences.
        rel: error, relative to the slope.
        abs: error where that is less.
    """
    generator, parts = torch.Generator().manual_seed(6), defaultdict(list)
    for name, parameter in named:
        way = torch.randn(parameter.numel(), generator=generator, dtype=parameter.dtype)
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        parts[name.rpartition(".")[0]].append(
            (parameter, parameter.detach().clone(), gradient, way.view_as(parameter) / way.norm())
        )
    assert any(gradient.any() for part in parts.values() for _, _, gradient, _ in part)
    for name, part in parts.items():
        values = []
        for sign in (1, -1, 0):  # back to the start
            with torch.no_grad():
                for parameter, start, _, way in part:
                    parameter.copy_(start + sign * step * way)
            if sign:
                values.append(function().item())
        found = sum((gradient * way).sum().item() for _, _, gradient, way in part)
        assert found == pytest.approx((values[0] - values[1]) / (2 * step), rel=rel, abs=abs), name
