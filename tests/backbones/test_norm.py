"""Batch normalisation: like PyTorch's on one batch, by the support set alone where asked, and never with a memory."""

import pytest
import torch
from torch import nn

from fewshot.backbones.norm import BatchNorm, adaptation_step, statistics_from_first


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
    with statistics_from_first(4):
        together = norm(x)
    torch.testing.assert_close(together[:4], norm(x[:4]), rtol=1e-12, atol=1e-12)


def test_query_rows_do_not_see_each_other(norm, x):
    with statistics_from_first(4):
        together = norm(x)
        alone = torch.cat([norm(torch.cat([x[:4], x[i : i + 1]]))[4:] for i in range(4, 7)])
    torch.testing.assert_close(together[4:], alone, rtol=1e-12, atol=1e-12)


def test_query_rows_do_see_each_other_in_one_batch(norm, x):
    changed = x.clone()
    changed[6] += 10
    assert not torch.allclose(norm(x)[:6], norm(changed)[:6])


def test_normalising_by_the_support_set_can_be_differentiated_twice(norm, x):
    def through(x, weight, bias):
        with statistics_from_first(4):
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
        with adaptation_step(step):
            torch.testing.assert_close(norm(x), factor * before)
            with statistics_from_first(len(x)):
                torch.testing.assert_close(norm(x), factor * before)
    assert torch.equal(norm(x), before), "outside of it the first step's again"
