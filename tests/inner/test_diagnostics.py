"""Looks at the gradients of an inner loop, against derivations by hand and against the engines."""

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from fewshot.inner.diagnostics import inner_gradient_norms, order_cosine
from fewshot.inner.engine import engine_kind
from fewshot.inner.unrolled import Unrolled
from fewshot.tasks.batch import TaskBatch, TaskRows


def one_weight(lr, steps, engine="functional"):
    """``y = w x`` with w = 1, squared error."""
    network = nn.Linear(1, 1, bias=False).double()
    nn.init.ones_(network.weight)
    inner = Unrolled(lr=lr, steps=steps, eval_steps=steps)
    return engine_kind(engine)(network, inner, inner.new_rates(network), mse_loss, "transductive")


def tasks(*slopes):
    """One support and one query input, x = 1 and x = 2, of tasks ``y = slope x``."""
    slope = torch.tensor(slopes, dtype=torch.float64).view(-1, 1, 1)
    number = torch.arange(len(slopes))
    return TaskBatch(torch.ones_like(slope), slope, 2 * torch.ones_like(slope), 2 * slope, TaskRows(number))


def test_norms_by_hand():
    """The gradient of (w - s)^2 is 2 (w - s); a step of rate 0.25 halves the distance of w to s."""
    norms = inner_gradient_norms(one_weight(lr=0.25, steps=3), tasks(3.0, 0.0))
    torch.testing.assert_close(norms, torch.tensor([[4.0, 2.0, 1.0], [2.0, 1.0, 0.5]], dtype=torch.float64))


@pytest.mark.parametrize("engine", ["functional", "vectorized", "learn2learn"])
def test_the_cosine_by_hand(engine):
    """With one weight the second order only scales: by 1 - 2 lr a step, which turns the gradient around from lr = 0.5 on."""
    batch = tasks(3.0, 2.0)
    assert order_cosine(one_weight(0.25, 1, engine), batch) == pytest.approx(1.0)
    assert order_cosine(one_weight(0.75, 1, engine), batch) == pytest.approx(-1.0)
    assert order_cosine(one_weight(0.75, 2, engine), batch) == pytest.approx(1.0)


def test_nothing_is_left_behind():
    engine, batch = one_weight(0.25, 2), tasks(3.0)
    weight = engine.network.weight
    weight.grad = mine = torch.full_like(weight, 7.0)
    order_cosine(engine, batch)
    inner_gradient_norms(engine, batch)
    assert weight.grad is mine
    assert mine.item() == 7.0
    assert weight.item() == 1.0
    assert weight.requires_grad


def test_the_path_is_that_of_the_engine():
    """Only a linear head adapts, at learned rates: from the outputs on the engine's path its gradients follow by hand."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    inner = Unrolled(lr=0.3, steps=3, eval_steps=3, adapt=["2.*"], rates="per_step")
    rates = inner.new_rates(network)
    with torch.no_grad():
        rates.learned[0].copy_(torch.rand(3, 2))
    engine = engine_kind("functional")(network, inner, rates, nn.functional.cross_entropy, "transductive")
    x, y, number = torch.randn(2, 6, 4, dtype=torch.float64), torch.arange(3).repeat(2, 2), torch.arange(2)
    batch = TaskBatch(x, y, x, y, TaskRows(number))
    norms = inner_gradient_norms(engine, batch)
    # Of a linear head on features f with outputs o the gradient is (softmax(o) - onehot)^T [f, 1] / rows.
    outputs = engine.adaptation_path(batch, 3)[:, :3]
    features = torch.cat([network[:2](x), torch.ones(2, 6, 1, dtype=torch.float64)], dim=-1)
    residuals = outputs.softmax(-1) - nn.functional.one_hot(y, 3)[:, None]
    expected = (residuals.mT @ features[:, None] / 6).flatten(2).norm(dim=-1)
    torch.testing.assert_close(norms, expected)
