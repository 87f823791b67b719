"""Batch normalisation: like PyTorch's on one batch, by the support set alone where asked, and never with a memory."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from fewshot.backbones.norm import BatchNorm, norm_mode


@pytest.fixture(params=[(7, 3), (7, 3, 5, 4)], ids=["vectors", "images"])
def x(request):
    return torch.randn(request.param, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 + 1


@pytest.fixture
def norm():
    layer = BatchNorm(3).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, 2.0, -1.0]))
        layer.bias.copy_(torch.tensor([0.1, -0.3, 4.0]))
    return layer


def test_one_batch_is_normalised_as_pytorch_does_in_training(norm, x):
    theirs = (nn.BatchNorm1d if x.ndim == 2 else nn.BatchNorm2d)(3).double().train()
    theirs.load_state_dict(norm.state_dict(), strict=False)
    torch.testing.assert_close(norm(x), theirs(x), rtol=1e-12, atol=1e-12)


def test_it_has_no_buffers_and_does_the_same_in_evaluation(norm, x):
    assert list(norm.buffers()) == []
    assert torch.equal(norm.train()(x), norm.eval()(x))


def test_support_rows_are_normalised_as_if_alone(norm, x):
    with norm_mode(rows=4):
        together = norm(x)
    torch.testing.assert_close(together[:4], norm(x[:4]), rtol=1e-12, atol=1e-12)


def test_query_rows_do_not_see_each_other(norm, x):
    with norm_mode(rows=4):
        together = norm(x)
        alone = torch.cat([norm(torch.cat([x[:4], x[i : i + 1]]))[4:] for i in range(4, 7)])
    torch.testing.assert_close(together[4:], alone, rtol=1e-12, atol=1e-12)


def test_query_rows_do_see_each_other_in_one_batch(norm, x):
    changed = x.clone()
    changed[6] += 10
    assert not torch.allclose(norm(x)[:6], norm(changed)[:6])


@pytest.mark.slow
def test_normalising_by_the_support_set_can_be_differentiated_twice(norm, x):
    def through(x, weight, bias):
        with norm_mode(rows=4):
            return torch.func.functional_call(norm, {"weight": weight, "bias": bias}, x)

    inputs = tuple(t.detach().clone().requires_grad_() for t in (x, norm.weight, norm.bias))
    assert torch.autograd.gradcheck(through, inputs)
    assert torch.autograd.gradgradcheck(through, inputs)


def test_each_inner_step_has_its_own_scale_and_shift_and_later_ones_the_last(norm, x):
    before = norm(x)
    norm.for_each_step(2)
    with torch.no_grad():
        norm.weight[1], norm.bias[1] = 2 * norm.weight[0], 2 * norm.bias[0]
    assert torch.equal(norm(x), before), "all begin alike, and no step is the first"
    for step, factor in ((0, 1), (1, 2), (2, 2), (7, 2)):
        with norm_mode(step=step):
            torch.testing.assert_close(norm(x), factor * before)
            with norm_mode(rows=len(x)):
                torch.testing.assert_close(norm(x), factor * before)
    assert torch.equal(norm(x), before), "outside of it the first step's again"


def sparse_images(*shape):
    """Two values, the larger one rare: convolutions of characters have such backgrounds."""
    return 0.37 - 2.9 * (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.1).float()


LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels-last"])


@LAYOUTS
@pytest.mark.parametrize("rows", [None, 25], ids=["all rows", "support rows"])
@pytest.mark.parametrize("images", ["sparse", "noisy"])
def test_single_precision_loses_a_few_roundings_only(images, rows, layout):
    """PyTorch's own is wrong by 4e-5 on sparse channels-last images."""
    shape, layer = (30, 4, 28, 28), BatchNorm(4)
    x = sparse_images(*shape) if images == "sparse" else torch.randn(shape, generator=torch.Generator().manual_seed(0))
    first = x[:rows].double()
    mean, variance = first.mean((0, 2, 3), keepdim=True), first.var((0, 2, 3), correction=0, keepdim=True)
    exact = (x.double() - mean) / (variance + layer.eps).sqrt()
    with norm_mode(rows=rows or len(x)) if rows else nullcontext():
        y = layer(x.contiguous(memory_format=layout))
    assert (y.double() - exact).abs().max() <= 2e-6 * exact.abs().max()
    assert (y.double() - exact).mean((0, 2, 3)).abs().max() <= 1e-7


@LAYOUTS
@pytest.mark.parametrize("rows", [None, 25], ids=["all rows", "support rows"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_channel_is_its_shift_to_the_bit(dtype, rows, layout):
    """A residue of one rounding would be multiplied by 316, and its sign decide what a ReLU lets through."""
    values = torch.rand(50, generator=torch.Generator().manual_seed(0), dtype=dtype) - 0.5
    x = values.view(1, -1, 1, 1).expand(30, -1, 13, 11).contiguous(memory_format=layout)
    layer = BatchNorm(50).to(dtype)
    with norm_mode(rows=rows or len(x)) if rows else nullcontext():
        assert torch.equal(layer(x), torch.zeros_like(x))
