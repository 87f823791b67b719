"""DropBlock (Ghiasi, Lin, Le 2018): zeroes squares of a feature map in training."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DropBlock(nn.Module):
    """Sets squares of positions to 0, each channel's own, and scales what is left to the same sum of weights (Algorithm 1).

    Args:
        rate: approximate share of positions that are zeroed.
        size: side of a square, positions; at most the map's shorter one.

    Shapes:
        ``(B, C, H, W)`` -> the same
    """

    def __init__(self, rate: float, size: int) -> None:
        super().__init__()
        self.rate, self.size = rate, size

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return x
        height, width = x.shape[-2:]
        size = min(self.size, height, width)
        corners = (height - size + 1, width - size + 1)
        share = self.rate / size**2 * height * width / (corners[0] * corners[1])  # equation 1
        hit = (torch.rand(*x.shape[:2], *corners, device=x.device) < share).to(x.dtype)
        kept = 1 - F.max_pool2d(F.pad(hit, [size - 1] * 4), size, stride=1)
        return x * kept * (kept.numel() / kept.sum().clamp(min=1))
