"""The fused block against its four layers."""

import pytest
import torch
from torch.nn import functional as F

from fewshot.backbones import fused
from fewshot.backbones.conv4 import Conv4
from fewshot.backbones.fused import conv_norm_pool_relu, differentiated_once
from fewshot.backbones.norm import norm_mode
from fewshot.backbones.statistics import by_task

SHAPES = ((7, 2, 6, 9), (3, 2, 3, 3), (3,), (3,), (3,))


def inputs(offset=0.0):
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    tensors[0] += offset
    assert (tensors[3] < 0).any()  # channels that are turned round
    assert (tensors[3] > 0).any()
    return [tensor.requires_grad_() for tensor in tensors]


def layers(x, weight, bias, scale, shift):
    features = F.batch_norm(F.conv2d(x, weight, bias, padding=1), None, None, scale, shift, training=True, eps=1e-5)
    return F.relu(F.max_pool2d(features, 2))


@pytest.mark.parametrize("chunk", [1, 400, 10**6], ids=["image by image", "three images", "all images"])
def test_value_and_gradient_are_those_of_the_layers(monkeypatch, chunk):
    monkeypatch.setattr(fused, "CHUNK", chunk)
    values = inputs()
    outcomes = []
    for function in (layers, lambda *values: conv_norm_pool_relu(*values, 1e-5)):
        y = function(*values)
        outcomes.append([y, *torch.autograd.grad(y.square().sum(), values)])
    for a, b in zip(*outcomes, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_a_mean_far_from_zero_costs_no_digits(monkeypatch):
    monkeypatch.setattr(fused, "CHUNK", 400)
    exact = inputs(offset=1000.0)
    single = [value.detach().float() for value in exact]
    error = (conv_norm_pool_relu(*single, 1e-5) - layers(*exact)).abs().max()
    assert error <= 3 * (layers(*single) - layers(*exact)).abs().max() + 1e-5


def test_the_input_needs_no_gradient():
    x, *rest = inputs()
    y = conv_norm_pool_relu(x.detach(), *rest, 1e-5)
    expected = torch.autograd.grad(layers(x.detach(), *rest).square().sum(), rest)
    for a, b in zip(torch.autograd.grad(y.square().sum(), rest), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_a_second_derivative_is_refused_not_wrong():
    values = inputs()
    (first, *_) = torch.autograd.grad(conv_norm_pool_relu(*values, 1e-5).square().sum(), values, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_it_is_used_where_one_derivative_is_enough_and_nowhere_else(monkeypatch):
    used = []
    monkeypatch.setattr("fewshot.backbones.conv4.conv_norm_pool_relu", lambda *values: used.append(1) or layers(*values[:5]))
    network, x = Conv4((2, 16, 16), filters=3), torch.rand(4, 2, 16, 16)
    network(x)
    with differentiated_once():
        with norm_mode(rows=2):
            network(x)
        with by_task(2):
            network(x)
        with torch.autocast("cpu", torch.bfloat16):
            network(x)
        assert not used
        network(x)
    assert len(used) == 4


def test_a_query_pass_holds_no_full_size_feature_map():
    from fewshot.inner.memory import peak_bytes

    network, x = Conv4((3, 64, 64), filters=16), torch.rand(40, 3, 64, 64)
    feature_map = 40 * 16 * 64 * 64 * 4

    def step():
        loss = network(x).square().mean()
        torch.autograd.grad(loss, list(network.parameters()))

    plain = peak_bytes(step)
    with differentiated_once():
        fused_peak = peak_bytes(step)
    assert fused_peak < 2 * feature_map < plain


def test_a_constant_channel_is_its_shift_to_the_bit():
    """As in `BatchNorm`: the images are blank, so that each channel is the bias of its convolution."""
    generator = torch.Generator().manual_seed(0)
    weight, bias = (torch.randn(shape, generator=generator) for shape in ((50, 2, 3, 3), (50,)))
    x = torch.zeros(25, 2, 28, 28).contiguous(memory_format=torch.channels_last)
    y = conv_norm_pool_relu(x, weight, bias, torch.ones(50), torch.zeros(50), 1e-5)
    assert torch.equal(y, torch.zeros_like(y))
