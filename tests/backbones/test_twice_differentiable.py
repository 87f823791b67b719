"""Layers with second derivatives of their own: equal to PyTorch's, right by finite differences, and alike under vmap."""

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, vmap
from torch.nn.functional import batch_norm as torch_batch_norm
from torch.nn.functional import conv2d, max_pool2d

from fewshot.backbones.conv import Conv2d
from fewshot.backbones.norm import batch_norm
from fewshot.backbones.pool import MaxPool

LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels-last"])


def normalise(x, weight, bias):
    return batch_norm(x, weight, bias, 1e-5)


def torch_normalise(x, weight, bias):
    return torch_batch_norm(x, None, None, weight, bias, training=True, eps=1e-5)


def convolve(stride, channels=2, filters=4):
    layer = Conv2d(channels, filters, 3, padding=1, stride=stride).double()
    return lambda x, weight, bias: functional_call(layer, {"weight": weight, "bias": bias}, (x,))


def torch_convolve(stride):
    return lambda x, weight, bias: conv2d(x, weight, bias, stride=stride, padding=1)


IMAGES, CHANNELS = (3, 2, 5, 4), (2,)
LAYERS = {
    "batch norm": (normalise, torch_normalise, (IMAGES, CHANNELS, CHANNELS)),
    "batch norm of one channel": (normalise, torch_normalise, ((3, 1, 5, 4), (1,), (1,))),
    "batch norm of features": (normalise, torch_normalise, ((6, 2), CHANNELS, CHANNELS)),
    "max-pooling": (MaxPool(), lambda x: max_pool2d(x, 2), (IMAGES,)),
    "convolution": (convolve(1), torch_convolve(1), (IMAGES, (4, 2, 3, 3), (4,))),
    "convolution of one channel": (convolve(1, 1, 1), torch_convolve(1), ((3, 1, 5, 4), (1, 1, 3, 3), (1,))),
    "strided convolution": (convolve(2), torch_convolve(2), (IMAGES, (4, 2, 3, 3), (4,))),
}
EACH = pytest.mark.parametrize("name", LAYERS)


def inputs_of(shapes, layout=torch.contiguous_format, tasks=()):
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(*tasks, *shape, generator=generator, dtype=torch.float64) for shape in shapes]
    if tensors[0].ndim == 4:
        tensors[0] = tensors[0].to(memory_format=layout)
    return [tensor.requires_grad_() for tensor in tensors]


@LAYOUTS
@EACH
def test_value_and_derivatives_are_pytorchs(name, layout):
    ours, theirs, shapes = LAYERS[name]
    derivatives = []
    for layer in (ours, theirs):
        inputs = inputs_of(shapes, layout)
        y = layer(*inputs)
        first = torch.autograd.grad(y.square().sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum(gradient.pow(3).sum() for gradient in first), inputs)
        derivatives.append([y, *first, *second])
    for a, b in zip(*derivatives, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)  # of cubes of what all but cancels


@LAYOUTS
@EACH
def test_derivatives_equal_finite_differences(name, layout):
    layer, _, shapes = LAYERS[name]
    inputs = inputs_of(shapes, layout)
    assert gradcheck(layer, inputs, check_undefined_grad=False)
    assert gradgradcheck(layer, inputs, check_undefined_grad=False)


def memory_of_tasks(images, layout):
    """Images ``(T, B, C, H, W)``, in contiguous memory or with the channels of all tasks beside each other."""
    if layout == torch.contiguous_format or images.ndim < 5:
        return images
    return images.permute(1, 3, 4, 0, 2).contiguous().permute(3, 0, 4, 1, 2)


@LAYOUTS
@pytest.mark.parametrize("weights", ["own", "the same", "shared"])
@EACH
def test_tasks_at_once_are_tasks_one_by_one(name, weights, layout):
    """Values and both derivatives; "the same" are one task's weights expanded, as before the first inner step."""
    layer, _, shapes = LAYERS[name]
    found = []
    for at_once in (True, False):
        x, *others = inputs_of(shapes, tasks=(4,))
        x = memory_of_tasks(x.detach(), layout).requires_grad_()
        if weights == "shared":
            others = [tensor[0].detach().requires_grad_() for tensor in others]
        elif weights == "the same":
            others = [tensor[0].detach().expand_as(tensor).requires_grad_() for tensor in others]
        dims = None if weights == "shared" else 0
        if at_once:
            y = vmap(layer, in_dims=(0, *(dims for _ in others)))(x, *others)
        else:
            y = torch.stack([layer(x[t], *(tensor if dims is None else tensor[t] for tensor in others)) for t in range(4)])
        first = torch.autograd.grad(y.square().sum(), [x, *others], create_graph=True)
        second = torch.autograd.grad(sum(gradient.pow(3).sum() for gradient in first), [x, *others])
        found.append([y, *first, *second])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_second_derivatives_keep_the_layout():
    """One step out of channels-last memory makes every layer before it slow."""
    x, weight, bias = inputs_of((IMAGES, CHANNELS, CHANNELS), torch.channels_last)
    y = MaxPool()(normalise(x, weight, bias))
    (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.pow(3).sum(), x)
    for tensor in (y, first, second):
        assert tensor.is_contiguous(memory_format=torch.channels_last)


def test_nothing_outlives_its_graph():
    """A function that kept its own outputs would keep itself alive until the garbage collector came by."""
    import gc
    import weakref

    gc.disable()
    try:
        for ours, _, shapes in LAYERS.values():
            inputs = inputs_of(shapes)
            first = torch.autograd.grad(ours(*inputs).square().sum(), inputs, create_graph=True)
            watched = [weakref.ref(gradient) for gradient in first]
            del first
            assert all(reference() is None for reference in watched)
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "options",
    [
        {"dilation": 2},
        {"groups": 2},
        {"stride": (1, 2)},
        {"padding": (1, 0)},
        {"padding": "same"},
        {"padding": 1, "padding_mode": "circular"},
        {"padding": 1, "stride": 2},
    ],
)
def test_a_convolution_is_pytorchs_whatever_its_options(options):
    torch.manual_seed(0)
    ours = Conv2d(4, 6, 3, **options).double()
    theirs = nn.Conv2d(4, 6, 3, **options).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.rand(2, 4, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))
