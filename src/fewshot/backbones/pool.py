"""Pooling that is deterministic on every device and can be differentiated twice without a detour."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class PositionMean(nn.Module):
    """The mean over positions, ``(B, C, H, W)`` -> ``(B, C)``; its gradient is deterministic on GPUs too."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


class MaxPool(nn.Module):
    """The largest of each 2x2 window, ``(B, C, H, W)`` -> ``(B, C, H//2, W//2)``, the first of equal ones.

    PyTorch's own keeps its input alive for its shape, and its second derivative leaves channels-last memory, after which every
    layer before it is computed slowly.
    """

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _MaxPool.apply(x)[0]
        return y


WINDOW = ([2, 2], [2, 2], [0, 0], [1, 1], False)
"""Size, stride, padding, dilation, whether to round up: as PyTorch's operators take them."""


class _MaxPool(torch.autograd.Function):
    """Under vmap, the tasks of ``(T, B, C, H, W)`` become channels."""

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        y, indices = torch.ops.aten.max_pool2d_with_indices(x, *WINDOW)
        return y, indices

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        (x,), (_, indices) = inputs, output
        ctx.mark_non_differentiable(indices)
        ctx.save_for_backward(indices)
        ctx.shape = x.shape

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> Tensor:
        grad_x: Tensor = _MaxPoolBackward.apply(grad, *ctx.saved_tensors, ctx.shape)
        return grad_x

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], x: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        outputs = _MaxPool.apply(x.movedim(in_dims[0], 1).flatten(1, 2))
        y, indices = (output.unflatten(1, (info.batch_size, -1)) for output in outputs)
        return (y, indices), (1, 1)


class _MaxPoolBackward(torch.autograd.Function):
    """Brings each gradient to where the largest element was; its own derivative fetches from there."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, indices: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(indices)
        layout = torch.channels_last if grad.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        like = torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=layout)  # of its shape alone is made use
        grad_x: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(grad, like, *WINDOW, indices)
        return grad_x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor, None, None]:
        (indices,) = ctx.saved_tensors
        if not u.is_contiguous(memory_format=torch.channels_last):
            return u.flatten(2).gather(2, indices.flatten(2)).view(indices.shape), None, None
        rows, places = (tensor.permute(0, 2, 3, 1).flatten(1, 2) for tensor in (u, indices))
        return rows.gather(1, places).unflatten(1, indices.shape[2:]).permute(0, 3, 1, 2), None, None
