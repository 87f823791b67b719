"""Convolution, batch normalisation, max-pooling and ReLU as one operation that never holds a full-size feature map.

For passes that are differentiated once: query sets, the largest part of an inner loop on a CPU. There the four layers are bound
by memory: each reads and writes every element of the feature map. Here a few images at a time go through all four while they
are in the cache, and again in the derivative.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fewshot.backbones.pool import WINDOW

CHUNK = 2**19
"""Elements of a feature map that are processed together: 2 MB in single precision, which fits into a CPU's cache."""

_once: ContextVar[bool] = ContextVar("differentiated_once", default=False)


@contextmanager
def differentiated_once() -> Iterator[None]:
    """Allows networks to use operations without a second derivative, within the context."""
    token = _once.set(True)
    try:
        yield
    finally:
        _once.reset(token)


def may_fuse(x: Tensor) -> bool:
    """Whether `conv_norm_pool_relu` is allowed here and faster."""
    return _once.get() and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def conv_norm_pool_relu(x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    """``relu(max_pool(batch_norm(conv(x))))`` with 3x3 kernels, padding 1 and 2x2 windows.

    Pooling comes before normalisation, which keeps the order of a channel's elements or, where its scale is negative, reverses
    it; there weights change their sign, which normalisation undoes.

    Args:
        x: ``(B, C, H, W)``
        weight, bias: of the convolution, ``(F, C, 3, 3)`` and ``(F,)``.
        scale, shift: of the normalisation, ``(F,)``.
        eps: added to the variance.

    Returns:
        ``(B, F, H//2, W//2)``
    """
    y: Tensor = _ConvNormPoolReLU.apply(x, weight, bias, scale, shift, eps)
    return y


class _ConvNormPoolReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
        sign = torch.where(scale < 0, -1.0, 1.0).to(scale.dtype)
        weight, bias = weight * sign.view(-1, 1, 1, 1), bias * sign
        images, _, height, width = x.shape
        pooled = x.new_empty(images, len(weight), height // 2, width // 2).to(memory_format=torch.channels_last)
        origin = first = second = torch.zeros(len(weight), dtype=torch.float64)
        for rows in _chunks(x, weight):
            features = torch.conv2d(x[rows], weight, bias, padding=1)
            pooled[rows] = torch.max_pool2d(features, 2)
            if rows.start == 0:
                # Moments about a value near the mean lose no digits.
                origin = features.mean((0, 2, 3))
            features.sub_(origin.view(1, -1, 1, 1))
            first = first + features.sum((0, 2, 3))
            second = second + features.square_().sum((0, 2, 3))
        count = images * height * width
        mean = (origin + first / count).to(x.dtype)
        inverse_std = (second / count - (first / count).square() + eps).rsqrt().to(x.dtype)
        factor = scale.abs() * inverse_std
        pooled.sub_(_of_channels(mean))  # before it is scaled: a constant channel is its shift to the bit, as in `BatchNorm`
        y = torch.addcmul(_of_channels(shift), pooled, _of_channels(factor)).relu_()
        ctx.save_for_backward(x, weight, bias, sign, factor, mean, inverse_std, pooled, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """With the derivative g of the normalised features x^ and means <.> over a channel, factor (g - <g> - x^ <g x^>)."""
        x, weight, bias, sign, factor, mean, inverse_std, pooled, y = ctx.saved_tensors
        grad = torch.ops.aten.threshold_backward(grad, y, 0)
        grad_shift = grad.sum((0, 2, 3))
        grad_scale = (grad * pooled).sum((0, 2, 3)) * inverse_std
        grad *= _of_channels(factor)
        count = len(x) * x.shape[2] * x.shape[3]
        slope = _of_channels(-factor * inverse_std * grad_scale / count)
        level = _of_channels(factor / count * (mean * inverse_std * grad_scale - grad_shift))
        grad_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        grad_weight, grad_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        for rows in _chunks(x, weight):
            features = torch.conv2d(x[rows], weight, bias, padding=1)
            _, places = torch.ops.aten.max_pool2d_with_indices(features, *WINDOW)
            of_features = torch.ops.aten.max_pool2d_with_indices_backward(grad[rows], features, *WINDOW, places)
            of_features.addcmul_(features, slope).add_(level)
            of_x, of_weight, of_bias = torch.ops.aten.convolution_backward(
                of_features, x[rows], weight, [len(weight)], [1, 1], [1, 1], [1, 1], False, [0, 0], 1,
                [grad_x is not None, True, True],
            )  # fmt: skip
            grad_weight += of_weight
            grad_bias += of_bias
            if grad_x is not None:
                grad_x[rows] = of_x
        return grad_x, grad_weight * sign.view(-1, 1, 1, 1), grad_bias * sign, grad_scale * sign, grad_shift, None


def _chunks(x: Tensor, weight: Tensor) -> Iterator[slice]:
    """Slices of the images to process together."""
    images, _, height, width = x.shape
    size = max(1, CHUNK // (len(weight) * height * width))
    return (slice(start, min(start + size, images)) for start in range(0, images, size))


def _of_channels(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)
