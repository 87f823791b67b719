"""Convolutions that can be differentiated twice without a detour, one task's or those of many tasks at once."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Conv2d(nn.Conv2d):
    """A convolution, as PyTorch's own.

    PyTorch computes its second derivative by convolutions of transposed tensors, group after group. The one here is made of
    the three operations that the first derivative has: a convolution, the gradient of its input, and that of its weight. With
    groups, dilation, another padding than of zeros, or a stride or padding that is not square, it is PyTorch's.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        square = not isinstance(self.padding, str) and len({*self.stride}) == len({*self.padding}) == 1
        self._is_ours = square and self.dilation == (1, 1) and self.groups == 1 and self.padding_mode == "zeros"

    def forward(self, x: Tensor) -> Tensor:
        if not self._is_ours:
            return super().forward(x)
        weight, bias = self.weight, self.bias
        device = x.device.type
        if torch.is_autocast_enabled(device):
            kind = torch.get_autocast_dtype(device)
            x, weight, bias = x.to(kind), weight.to(kind), None if bias is None else bias.to(kind)
        how = (self.stride[0], int(self.padding[0]), 1)
        y: Tensor = _Conv2d.apply(x, weight, bias, how)
        return y


How = tuple[int, int, int]
"""Stride, padding, groups."""


def _convolution(x: Tensor, weight: Tensor, bias: Tensor | None, how: How) -> Tensor:
    """Of one task ``(B, C, H, W)``, or of tasks side by side ``(B, T*C, H, W)`` with weights ``(T, filters, C, h, w)``."""
    stride, padding, groups = how
    if weight.ndim == 4:
        return torch.conv2d(x, weight, bias, stride, padding, 1, groups)
    tasks = len(weight)
    if _serve_all_tasks(weight, x) and (bias is None or bias.stride(0) == 0):
        one_bias = None if bias is None else bias[0]
        return _tasks_as_channels(_convolution(_tasks_as_images(x, tasks), weight[0], one_bias, how), tasks)
    biases = None if bias is None else bias.flatten()
    return torch.conv2d(x, weight.flatten(0, 1), biases, stride, padding, 1, groups * tasks)


def _gradients(
    grad: Tensor, x: Tensor, weight: Tensor, how: How, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Of input, weight and bias, where they are wanted."""
    if not any(wanted):
        return None, None, None
    stride, padding, groups = how
    if weight.ndim == 4:
        found = torch.ops.aten.convolution_backward(
            grad, x, weight, [len(weight)], [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups, wanted
        )
        grad_x, grad_weight, grad_bias = found
        return grad_x, grad_weight, grad_bias
    tasks = len(weight)
    together = wanted[0] and _serve_all_tasks(weight, x)
    grad_x, grad_weight, grad_bias = _gradients(
        grad, x, weight.flatten(0, 1), (stride, padding, groups * tasks), (wanted[0] and not together, *wanted[1:])
    )
    if together:
        images = _gradients(_tasks_as_images(grad, tasks), _tasks_as_images(x, tasks), weight[0], how, (True, False, False))
        grad_x = None if images[0] is None else _tasks_as_channels(images[0], tasks)
    return (
        grad_x,
        None if grad_weight is None else torch.unflatten(grad_weight, 0, (tasks, -1)),
        None if grad_bias is None else grad_bias.view(tasks, -1),
    )


def _serve_all_tasks(weight: Tensor, x: Tensor) -> bool:
    """Whether all tasks have the same weights, as before the first inner step, and their images lie as one batch may."""
    return weight.stride(0) == 0 and len(weight) > 1 and x.is_contiguous()


def _tasks_as_images(x: Tensor, tasks: int) -> Tensor:
    """``(B, T*C, H, W)`` as ``(B*T, C, H, W)``, in which tasks are no groups but more images."""
    return x.reshape(len(x) * tasks, -1, *x.shape[2:])


def _tasks_as_channels(x: Tensor, tasks: int) -> Tensor:
    """``(B*T, C, H, W)`` as ``(B, T*C, H, W)``."""
    return x.reshape(len(x) // tasks, -1, *x.shape[2:])


class _Conv2d(torch.autograd.Function):
    """Under vmap, the tasks of ``(T, B, C, H, W)`` become channels, each a group of its own.

    Where weights have no dimension of tasks, the images of all tasks are one batch instead.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, how: How) -> Tensor:
        return _convolution(x, weight, bias, how)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Tensor) -> None:
        x, weight, bias, ctx.how = inputs
        ctx.with_bias = bias is not None
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        wanted = (*ctx.needs_input_grad[:2], ctx.with_bias and ctx.needs_input_grad[2])
        return (*_Conv2dBackward.apply(grad, *ctx.saved_tensors, ctx.how, wanted), None)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, weight: Tensor, bias: Tensor | None, how: How
    ) -> tuple[Tensor, int]:
        tasks, (of_x, of_weight, of_bias, _) = info.batch_size, in_dims
        if of_weight is None and of_bias is None and of_x is not None:
            y: Tensor = _Conv2d.apply(x.movedim(of_x, 0).flatten(0, 1), weight, bias, how)
            return y.view(tasks, -1, *y.shape[1:]), 0
        x = x.movedim(of_x, 1) if of_x is not None else x.unsqueeze(1).expand(-1, tasks, *x.shape[1:])
        weight = weight.movedim(of_weight, 0) if of_weight is not None else weight.expand(tasks, *weight.shape)
        if bias is not None:
            bias = bias.movedim(of_bias, 0) if of_bias is not None else bias.expand(tasks, -1)
        y = _Conv2d.apply(x.flatten(1, 2), weight, bias, how)
        return torch.unflatten(y, 1, (tasks, -1)), 1


class _Conv2dBackward(torch.autograd.Function):
    """The gradients of `_Conv2d`, which are linear in the incoming gradient, in the input and in the weight."""

    @staticmethod
    def forward(
        ctx: Any, grad: Tensor, x: Tensor, weight: Tensor, how: How, wanted: tuple[bool, bool, bool]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        ctx.how, ctx.wanted = how, wanted
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(grad, x, weight)
        return _gradients(grad, x, weight, how, wanted)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, u_x: Tensor | None, u_weight: Tensor | None, u_bias: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        """For gradients of the three outputs, None where an output was not wanted or not used."""
        grad, x, weight = ctx.saved_tensors
        needs_grad, needs_x, needs_weight = ctx.needs_input_grad[:3]
        of_grad: Tensor | None = None
        if needs_grad:
            if u_weight is not None:
                of_grad = _convolution(x, u_weight, u_bias, ctx.how)
            elif u_bias is not None:
                of_grad = u_bias.view(1, -1, 1, 1).expand_as(grad)
            if u_x is not None:
                through_x = _convolution(u_x, weight, None, ctx.how)
                of_grad = through_x if of_grad is None else through_x.add_(of_grad)
        of_x = _gradients(grad, x, u_weight, ctx.how, (True, False, False))[0] if needs_x and u_weight is not None else None
        of_weight = (
            _gradients(grad, u_x, weight, ctx.how, (False, True, False))[1] if needs_weight and u_x is not None else None
        )
        return of_grad, of_x, of_weight, None, None
