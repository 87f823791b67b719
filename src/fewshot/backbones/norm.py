"""Batch normalisation for tasks: statistics of the batch at hand, never running averages."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Normaliser = Callable[["BatchNorm", Tensor], Tensor]
"""What a layer makes of its input."""


@dataclass(frozen=True)
class NormMode:
    """What every `BatchNorm` does.

    Attributes:
        step: 0, 1, ...; the inner step whose scale and shift are used, where there are some for each.
        rows: first rows of an input that the statistics of all its rows are taken from; None takes all. This is how a query set
            is normalised by its support set alone (inductive evaluation): the two pass through the network as one batch,
            support first.
        normaliser: replaces the forward of every layer. This is how the images of many tasks pass through a network as one
            batch and are normalised task by task.
    """

    step: int = 0
    rows: int | None = None
    normaliser: Normaliser | None = None


PLAIN = NormMode()
_mode: ContextVar[NormMode] = ContextVar("norm_mode", default=PLAIN)


@contextmanager
def norm_mode(**changes: Any) -> Iterator[None]:
    """Changes what every `BatchNorm` does, within the context (`NormMode`)."""
    token = _mode.set(replace(_mode.get(), **changes))
    try:
        yield
    finally:
        _mode.reset(token)


def of_whole_batch() -> bool:
    """Whether a `BatchNorm` takes its statistics from all rows of its input, and normalises these by itself."""
    return _mode.get().rows is None and _mode.get().normaliser is None


class BatchNorm(nn.Module):
    """Normalises each channel of ``(B, C)`` or ``(B, C, H, W)`` by batch statistics, then scales and shifts it.

    It gathers nothing: the original MAML normalises by batch statistics in training and test alike, and a running average that
    tasks update would let one task's data change another's result. (`RunningStatistics` are kept by models that gather them
    from training tasks alone.)

    Attributes:
        weight, bias: scale and shift, ``(C,)``, or ``(steps, C)`` after `for_each_step`.
        mean, variance: ``(C,)``, a copy of what a model has gathered (`RunningStatistics`); a layer that is taken out of the
            model and put into ``eval()`` normalises by it. None where a model normalises by the batch at hand.
    """

    mean: Tensor | None
    variance: Tensor | None

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", None, persistent=False)
        self.register_buffer("variance", None, persistent=False)

    def for_each_step(self, steps: int) -> None:
        """Gives each of `steps` inner steps a scale and shift of its own."""
        self.weight = nn.Parameter(self.weight.detach().repeat(steps, 1))
        self.bias = nn.Parameter(self.bias.detach().repeat(steps, 1))

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """``(C,)`` each; those of the present inner step, or of the last that has its own, where there are several."""
        if self.weight.ndim == 1:
            return self.weight, self.bias
        step = min(_mode.get().step, len(self.weight) - 1)
        return self.weight[step], self.bias[step]

    def forward(self, x: Tensor) -> Tensor:
        normaliser = _mode.get().normaliser
        if normaliser is not None:
            return normaliser(self, x)
        if self.mean is None or self.training:
            return self.by_batch(x)
        return F.batch_norm(x, self.mean, self.variance, self.weight, self.bias, False, 0.0, self.eps)

    def by_batch(self, x: Tensor) -> Tensor:
        """Normalised by the statistics of `x`, or of its first rows (`NormMode.rows`)."""
        rows, (weight, bias) = _mode.get().rows, self.scale_and_shift()
        if rows is None:
            return batch_norm(x, weight, bias, self.eps)
        distances, _, offset, inverse_std = _statistics(x, self.eps, rows)
        scale = weight * inverse_std
        return torch.addcmul(_of_channels(bias - offset * scale, x), distances, _of_channels(scale, x))


def has_batch_norm(network: nn.Module) -> bool:
    """Whether images of a batch are normalised by each other anywhere in it."""
    return any(isinstance(module, BatchNorm) for module in network.modules())


def batch_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """``(x - mean) / sqrt(variance + eps) * weight + bias`` by the statistics of each channel of `x` (Ioffe & Szegedy 2015).

    The first derivative is PyTorch's own. Its second derivative, which MAML needs, takes some twenty passes over memory; the
    one here takes a third of them. On a CPU the value is ours too: PyTorch adds up channels-last images one element after
    another, which on images with a constant background leaves results wrong by 1e-4, and ReLUs that decide otherwise.

    Args:
        x: ``(B, C, ...)``
        weight, bias: ``(C,)``
        eps: added to the variance.
    """
    y: Tensor = _BatchNorm.apply(x, weight, bias, eps)[0]
    return y


def _statistics(x: Tensor, eps: float, rows: int | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean and inverse standard deviation of the first `rows` of `x` (None: of all), exact to a few roundings in any layout.

    They are computed from the distances to an origin, so that no digits of a large mean are lost. The origin is the rounded
    mean, or an element that cannot be told from it: a channel whose elements are equal comes out as its bias to the bit, and
    no rounding decides the sign that a ReLU sees.

    Returns:
        ``x - origin``; the origin, ``mean - origin`` and the inverse standard deviation ``(C,)``.
    """
    with torch.no_grad():
        mean, element = _mean(x[:rows]), x[0].flatten(1)[:, 0] if x.ndim > 2 else x[0]
        equal = (element - mean).abs() <= 64 * torch.finfo(x.dtype).eps * element.abs()
        origin = torch.where(equal, element, mean)
    distances = x - _of_channels(origin, x)
    offset = _mean(distances[:rows])
    variance = _mean(distances[:rows].square()) - offset.square()
    return distances, origin, offset, (variance + eps).rsqrt()


def _mean(x: Tensor) -> Tensor:
    """Of each channel ``(C,)``; on a CPU over the images in double precision, which costs nothing there."""
    images = x.flatten(2).mean(2) if x.ndim > 2 else x
    return images.mean(0, dtype=torch.float64 if x.device.type == "cpu" else None).to(x.dtype)


def _of_channels(values: Tensor, x: Tensor) -> Tensor:
    """Values ``(C,)`` in the shape that meets `x`."""
    return values.view([1, -1] + [1] * (x.ndim - 2))


class _BatchNorm(torch.autograd.Function):
    """Under vmap, the tasks of ``(T, B, C, ...)`` become channels: ``(B, T*C, ...)`` has each task's own statistics."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        if x.device.type == "cpu" and x.dtype == weight.dtype:
            distances, origin, offset, inverse_std = _statistics(x, eps)
            scale = weight * inverse_std
            shift = _of_channels(bias - offset * scale, x)
            return torch.addcmul(shift, distances, _of_channels(scale, x), out=distances), origin + offset, inverse_std
        y, mean, inverse_std = torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, eps)
        return y, mean, inverse_std

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, weight, _, ctx.eps = inputs
        _, mean, inverse_std = output
        ctx.mark_non_differentiable(mean, inverse_std)
        ctx.save_for_backward(x, weight, mean, inverse_std)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        return (*_BatchNormBackward.apply(grad, *ctx.saved_tensors, ctx.eps), None)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        tasks = info.batch_size
        x = x.movedim(in_dims[0], 1) if in_dims[0] is not None else x.unsqueeze(1).expand(-1, tasks, *x.shape[1:])
        # What is reshaped may be a view of one and the same element, which PyTorch's operator would read past.
        flat = [
            (part.movedim(dim, 0) if dim is not None else part.expand(tasks, -1)).reshape(-1).contiguous()
            for part, dim in ((weight, in_dims[1]), (bias, in_dims[2]))
        ]
        y, mean, inverse_std = _BatchNorm.apply(x.flatten(1, 2), *flat, eps)
        return (y.unflatten(1, (tasks, -1)), mean.view(tasks, -1), inverse_std.view(tasks, -1)), (1, 0, 0)


class _BatchNormBackward(torch.autograd.Function):
    """The gradients of `_BatchNorm`, and how they change with what they are computed from.

    With x^ the normalised input, s the inverse standard deviation, w the weight, g the incoming gradient and means <.> over a
    channel's elements, they are

        grad_x = w s (g - <g> - x^ <g x^>)      grad_w = M <g x^>      grad_b = M <g>.
    """

    @staticmethod
    def forward(
        ctx: Any, grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, inverse_std: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, None, None, mean, inverse_std, True, eps, [True, True, True]
        )
        ctx.save_for_backward(grad, x, weight, mean, inverse_std, grad_weight, grad_bias)
        return grad_x, grad_weight, grad_bias

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor, u_weight: Tensor, u_bias: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        """For gradients u, u_w, u_b of the three outputs.

        What does not depend on an element is gathered in one coefficient a channel, so that grad_g is a combination of u, x^
        and 1, and grad_x one of u, g, x^ and 1.
        """
        g, x, weight, mean, s, grad_weight, grad_bias = ctx.saved_tensors
        dims = [0, *range(2, x.ndim)]
        count = x.numel() // x.shape[1]

        def channels(values: Tensor) -> Tensor:
            return _of_channels(values, x).to(x.dtype)

        normalised = x.sub(channels(mean)).mul_(channels(s))  # the mean first: it may be far larger than what is left
        mean_g, mean_gx = grad_bias / count, grad_weight / count
        mean_u = u.sum(dims) / count
        mean_ux = (u * normalised).sum(dims) / count
        mean_ug = (u * g).sum(dims) / count
        correlation = mean_ug - mean_u * mean_g - mean_ux * mean_gx

        ws = weight * s
        along = u_weight - ws * mean_ux
        grad_g = torch.addcmul(channels(u_bias - ws * mean_u), u, channels(ws)).addcmul_(normalised, channels(along))

        # Of x^: -w s (u <g x^> + g <u x^>) + u_w g, which reaches x as in the first derivative, and s of itself.
        of_u, of_g = -ws * mean_gx, along
        mean_h = of_u * mean_u + of_g * mean_g
        mean_hx = of_u * mean_ux + of_g * mean_gx
        grad_x = torch.addcmul(channels(-s * mean_h), u, channels(s * of_u)).addcmul_(g, channels(s * of_g))
        grad_x.addcmul_(normalised, channels(-s * mean_hx - ws * s * correlation))
        return grad_g, grad_x, count * s * correlation, None, None, None
