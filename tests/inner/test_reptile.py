"""Reptile's outer gradient against its steps written out with PyTorch's optimisers, and against its expansion."""

from functools import partial

import pytest
import torch
from torch import nn

from fewshot.inner.engine import engine_kind
from fewshot.inner.reptile import Reptile, shuffled_rows
from fewshot.tasks.batch import TaskBatch, TaskRows
from tests.inner.engine_tester import QUERIES, SHOTS, WAYS, network_of, random_tasks, smooth_network

ENGINES = pytest.mark.parametrize("engine", ["functional", "vectorized"])
ADAM = partial(torch.optim.Adam, betas=(0.0, 0.999))


def built(engine, network, loss=nn.functional.cross_entropy, **options):
    inner = Reptile(**({"lr": 0.1, "steps": 4, "eval_steps": 4, "adapt_norm": True} | options))
    return engine_kind(engine)(network, inner, inner.new_rates(network), loss, "transductive")


def trained(network, x, y, rows, optimizer):
    """The weights after a step on each of some mini-batches, by a PyTorch optimiser and ``backward``."""
    steps = optimizer(network.parameters())
    for of_step in rows:
        steps.zero_grad()
        nn.functional.cross_entropy(network(x[of_step]), y[of_step]).backward()
        steps.step()
    return [parameter.detach() for parameter in network.parameters()]


@pytest.mark.parametrize("size", [None, 4, 25])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
@ENGINES
def test_it_is_the_mean_way_from_where_tasks_end_to_where_they_began(engine, kind, size):
    """Support and query images are trained on alike; the mean is over tasks."""
    network, batch = network_of("conv4"), random_tasks(3)
    optimizer, rate = (torch.optim.SGD, 0.1) if kind == "sgd" else (ADAM, 0.01)
    torch_optimizer = partial(torch.optim.SGD if kind == "sgd" else ADAM, lr=rate)
    built(engine, network, lr=rate, optimizer=optimizer, batch_size=size).meta_gradient(batch, 3)
    rows = WAYS * (SHOTS + QUERIES)
    every = shuffled_rows([0, 1, 2], rows, size, 4) if size else torch.arange(rows).expand(3, 4, rows)
    ends = [
        trained(network_of("conv4"), torch.cat([x, u]), torch.cat([y, v]), of_task, torch_optimizer)
        for x, y, u, v, of_task in zip(
            batch.support_x, batch.support_y, batch.query_x, batch.query_y, every, strict=True
        )
    ]  # fmt: skip
    for parameter, *of_tasks in zip(network.parameters(), *ends, strict=True):
        expected = parameter.detach() - torch.stack(of_tasks).mean(dim=0)
        # Adam enlarges what is left of a bias's gradient before a batch norm, which is 0 but for rounding.
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-8, atol=1e-8 if kind == "adam" else 1e-11)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
@ENGINES
def test_evaluation_adapts_to_the_support_set_alone(engine, kind):
    network, batch = network_of("conv4"), random_tasks(2)
    optimizer = torch.optim.SGD if kind == "sgd" else ADAM
    torch_optimizer = partial(optimizer, lr=0.01)
    path = built(engine, network, lr=0.01, optimizer=optimizer, eval_batch_size=4).adaptation_path(batch, 3)
    every = shuffled_rows([0, 1], WAYS * SHOTS, 4, 3)
    for t, task in enumerate(batch):
        for steps in range(4):
            learner = network_of("conv4")
            trained(learner, task.support_x, task.support_y, every[t, :steps], torch_optimizer)
            torch.testing.assert_close(path[t, steps], learner(task.query_x).detach(), rtol=1e-7, atol=1e-8)


@ENGINES
def test_gradient_descent_by_it_is_the_papers_interpolation(engine):
    """Theta + epsilon * mean(phi - theta): from 0 towards the mean of the tasks' minima (Algorithm 2).

    One weight w per task with support loss (w - y)^2 and query loss (w - v)^2, which are one loss (w - (y + v) / 2)^2 plus a
    constant: k steps at rate a leave (1 - 2a)^k of the distance to its minimum.
    """
    network = nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(network.weight)
    one = torch.ones(3, 1, 1, dtype=torch.float64)
    y, v = torch.tensor([[1.0, 2, 6], [3, 4, 8]], dtype=torch.float64)[..., None, None]
    batch = TaskBatch(one, y, one, v, TaskRows(torch.arange(3)))
    engine = built(engine, network, nn.functional.mse_loss, lr=0.25, steps=3)
    engine.meta_gradient(batch, 3)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    optimizer.step()
    minima = torch.tensor([2.0, 3.0, 7.0])
    assert network.weight.item() == pytest.approx(0.5 * (1 - 0.5**3) * minima.mean().item())


@ENGINES
def test_its_expansion_is_that_of_the_paper(engine):
    """To leading order in the rate a, the displacement after k steps is a times the sum of k gradients at the start.

    The next term (Nichol et al. 2018, equation 21) is -a^2 k(k-1)/2 H g: of half the rate, a quarter remains.
    """
    network, batch = smooth_network(), random_tasks(2)
    x, y = torch.cat([batch.support_x, batch.query_x], dim=1), torch.cat([batch.support_y, batch.query_y], dim=1)
    parameters = list(network.parameters())
    loss = sum(nn.functional.cross_entropy(network(of_task), labels) for of_task, labels in zip(x, y, strict=True)) / 2
    slopes = torch.autograd.grad(loss, parameters)
    rests = []
    for rate in (1e-3, 5e-4):
        network.zero_grad()
        built(engine, network, lr=rate).meta_gradient(batch, 2)
        rest = [p.grad - 4 * rate * slope for p, slope in zip(parameters, slopes, strict=True)]
        rests.append(torch.cat([r.flatten() for r in rest]).norm().item())
    assert rests[0] / rests[1] == pytest.approx(4, rel=0.05)


def test_a_task_is_adapted_to_alike_whoever_it_is_with():
    """Adam remembers nothing of other tasks; mini-batches are the task's own."""
    batch, options = random_tasks(3), {"optimizer": ADAM, "batch_size": 4, "lr": 0.01}
    network = network_of("conv4")
    built("vectorized", network, **options).meta_gradient(batch, 3)
    together = [parameter.grad for parameter in network.parameters()]
    network = network_of("conv4")
    for i in range(3):
        built("functional", network, **options).meta_gradient(batch.slice(i, i + 1), 3)
    for (name, parameter), found in zip(network.named_parameters(), together, strict=True):
        if name.endswith(".0.bias"):  # undone by a batch norm: Adam divides rounding errors by themselves
            assert max(found.abs().max(), parameter.grad.abs().max()) < 1e-6
        else:
            torch.testing.assert_close(found, parameter.grad, rtol=1e-8, atol=1e-11)


def test_every_row_is_seen_once_before_any_is_seen_again():
    rows = shuffled_rows([3, 7], rows=6, size=4, steps=6)
    assert rows.shape == (2, 6, 4)
    for of_task in rows:
        decks = of_task.flatten().view(4, 6)
        assert torch.equal(decks.sort(dim=1).values, torch.arange(6).expand(4, 6))
        assert not torch.equal(decks[0], decks[1]), "shuffled anew"


def test_a_task_has_the_same_rows_whoever_it_is_with():
    together = shuffled_rows([5, 9, 2], rows=10, size=3, steps=4)
    assert torch.equal(shuffled_rows([9], rows=10, size=3, steps=4)[0], together[1])
    assert torch.equal(shuffled_rows([9], rows=10, size=3, steps=2)[0], together[1, :2])
    assert not torch.equal(together[0], together[1])


def test_batches_larger_than_the_set_hold_every_row_equally_often():
    rows = shuffled_rows([0], rows=5, size=25, steps=3)
    assert all(of_step.bincount().tolist() == [5] * 5 for of_step in rows[0])
