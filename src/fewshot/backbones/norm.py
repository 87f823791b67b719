"""Batch normalisation for tasks: statistics of the batch at hand, never running averages."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

_statistics_rows: ContextVar[int | None] = ContextVar("statistics_rows", default=None)


@contextmanager
def statistics_from_first(rows: int) -> Iterator[None]:
    """Within it, every `BatchNorm` takes its statistics from the first `rows` of its input and normalises all rows by them.

    This is how a query set is normalised by its support set alone (inductive evaluation): the two pass through the network as
    one batch, support first.
    """
    token = _statistics_rows.set(rows)
    try:
        yield
    finally:
        _statistics_rows.reset(token)


class BatchNorm(nn.Module):
    """Normalises each channel of ``(B, C)`` or ``(B, C, H, W)`` by batch statistics, then scales and shifts it.

    It has no buffers: the original MAML normalises by batch statistics in training and test alike, and a running average that
    tasks update would let one task's data change another's result.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        rows = _statistics_rows.get()
        if rows is None:
            return nn.functional.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)
        dims = [0, *range(2, x.ndim)]
        variance, mean = torch.var_mean(x[:rows], dim=dims, correction=0)
        shape = [1, -1] + [1] * (x.ndim - 2)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return x * scale.view(shape) + (self.bias - mean * scale).view(shape)
