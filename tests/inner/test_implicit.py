"""The implicit gradient of iMAML against dense algebra, the unrolled gradient it stands for, and TorchOpt's."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torchopt.diff.implicit import custom_root
from torchopt.linear_solve import solve_cg

from fewshot.inner.engine import engine_kind
from fewshot.inner.implicit import Implicit, conjugate_gradient
from fewshot.inner.unrolled import Unrolled
from fewshot.tasks.batch import TaskBatch, TaskRows
from tests.inner.engine_tester import network_of, random_tasks, smooth_network

ENGINES = pytest.mark.parametrize("engine", ["functional", "vectorized"])
PULL, STEPS = 2.0, 300


def built(engine, network, loss=nn.functional.cross_entropy, kind=Implicit, **options):
    inner = kind(**({"lr": 0.1, "steps": STEPS, "eval_steps": STEPS, "proximal": PULL} | options))
    return engine_kind(engine)(network, inner, inner.new_rates(network), loss, "transductive")


def small_inputs():
    """The pull is what bends their support losses most: they have one minimum."""
    batch = random_tasks()
    return batch.with_inputs(batch.support_x / 4, batch.query_x / 4)


def meta_gradient(engine, batch):
    engine.network.zero_grad()
    losses, _ = engine.meta_gradient(batch, len(batch))
    return losses, [parameter.grad.clone() for parameter in engine.network.parameters()]


def lines(tasks=3, dim=4):
    """Linear regression."""
    generator = torch.Generator().manual_seed(0)
    x, u = (torch.randn(tasks, rows, dim, generator=generator, dtype=torch.float64) for rows in (3, 5))
    y, v = (torch.randn(tasks, rows, 1, generator=generator, dtype=torch.float64) for rows in (3, 5))
    return TaskBatch(x, y, u, v, TaskRows(torch.arange(tasks)))


@ENGINES
def test_it_equals_the_closed_form_of_linear_regression(engine):
    """With support (X, y), query (U, v) and squared loss, H = 2 X^T X / K and phi = (H + a I)^-1 (2 X^T y / K + a theta).

    The query loss's gradient 2 U^T (U phi - v) / Q reaches theta times a (H + a I)^-1. In 4 dimensions conjugate gradients are
    exact after 4 steps.
    """
    torch.manual_seed(0)
    network, batch = nn.Linear(4, 1, bias=False).double(), lines()
    losses, (found,) = meta_gradient(built(engine, network, nn.functional.mse_loss, cg_steps=4, steps=1000), batch)
    theta, expected = network.weight.detach()[0], []
    for t, task in enumerate(batch):
        matrix = 2 / 3 * task.support_x.T @ task.support_x + PULL * torch.eye(4, dtype=torch.float64)
        phi = torch.linalg.solve(matrix, 2 / 3 * (task.support_x.T @ task.support_y)[:, 0] + PULL * theta)
        error = task.query_x @ phi - task.query_y[:, 0]
        torch.testing.assert_close(losses[t], error.square().mean())
        expected.append(PULL * torch.linalg.solve(matrix, 2 / 5 * task.query_x.T @ error))
    torch.testing.assert_close(found[0], torch.stack(expected).mean(dim=0), rtol=1e-9, atol=1e-11)


@pytest.mark.slow
@ENGINES
def test_it_is_the_limit_of_the_unrolled_gradient(engine):
    """Of parameters that are adapted and of those that are not; the two share nothing but the steps."""
    batch, options = small_inputs(), {"adapt": ("1.weight", "3.*")}
    _, unrolled = meta_gradient(built("learn2learn", smooth_network(), kind=Unrolled, **options), batch)
    far, near = (meta_gradient(built(engine, smooth_network(), cg_steps=steps, **options), batch)[1] for steps in (1, 40))

    def distance(gradient):
        return torch.cat([(a - b).flatten() for a, b in zip(gradient, unrolled, strict=True)]).norm().item()

    assert distance(near) < 1e-9
    assert distance(far) > 1e-4, "one step of conjugate gradients is an approximation"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:We've integrated functorch:FutureWarning")  # TorchOpt calls it by its old name
@ENGINES
def test_it_equals_torchopts(engine):
    """Its ``custom_root`` differentiates the same condition at the same solution, by a conjugate-gradient solver of its own."""
    network, batch, adapted = smooth_network(), small_inputs(), ["1.weight", "3.weight", "3.bias"]
    _, found = meta_gradient(built(engine, network, cg_steps=60, adapt=adapted), batch)

    parameters = {name: p.detach().clone().requires_grad_() for name, p in network.named_parameters()}
    shared = ["1.bias"]

    def loss(phi, rest, x, y):
        weights = dict(zip([*adapted, *shared], [*phi, *rest], strict=True))
        return nn.functional.cross_entropy(functional_call(network, weights, (x,)), y)

    def condition(phi, theta, rest, x, y):
        slopes = torch.func.grad(loss)(phi, rest, x, y)
        return tuple(s + PULL * (p - t) for s, p, t in zip(slopes, phi, theta, strict=True))

    @custom_root(condition, argnums=(1, 2), solve=solve_cg(maxiter=200, rtol=1e-12, atol=1e-14))
    def solution(phi, theta, rest, x, y):
        for _ in range(STEPS):
            phi = tuple(p - 0.1 * s for p, s in zip(phi, condition(phi, theta, rest, x, y), strict=True))
        return phi

    theta, rest = (tuple(parameters[name] for name in names) for names in (adapted, shared))
    for task in batch:
        begin = tuple(p.detach().clone().requires_grad_() for p in theta)
        phi = solution(begin, theta, rest, task.support_x, task.support_y)
        (loss(phi, rest, task.query_x, task.query_y) / len(batch)).backward()
    for gradient, parameter in zip(found, parameters.values(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-8, atol=1e-10)


def test_both_engines_agree_whatever_is_adapted():
    for options in ({"cg_steps": 2}, {"cg_steps": 2, "cg_damping": 1.0}, {"adapt": ("1.*",)}, {"adapt_norm": True}):
        results = []
        for engine in ("functional", "vectorized"):
            losses, gradient = meta_gradient(built(engine, network_of("conv4"), steps=5, **options), random_tasks(3))
            results.append([losses, *gradient])
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("stacked", [False, True])
def test_conjugate_gradients_solve(stacked):
    """Three systems of 4 unknowns, one of which is solved at once."""
    torch.manual_seed(0)
    factors = torch.randn(3, 4, 4, dtype=torch.float64)
    matrices = factors @ factors.mT + torch.eye(4)
    right = torch.randn(3, 4, dtype=torch.float64)
    right[1] = 0
    expected = torch.linalg.solve(matrices, right)
    if stacked:
        (found,) = conjugate_gradient(lambda v: [(matrices @ v[0].unsqueeze(2)).squeeze(2)], [right], 4, stacked=True)
        torch.testing.assert_close(found, expected)
        (more,) = conjugate_gradient(lambda v: [(matrices @ v[0].unsqueeze(2)).squeeze(2)], [right], 20, stacked=True)
        torch.testing.assert_close(more, expected)
    else:
        for matrix, vector, solution in zip(matrices, right, expected, strict=True):
            (found,) = conjugate_gradient(lambda v, matrix=matrix: [matrix @ v[0]], [vector], 4, stacked=False)
            torch.testing.assert_close(found, solution)


@ENGINES
def test_evaluation_is_pulled_to_the_start_too(engine):
    """With an overwhelming pull the weights stay where they are."""
    network, batch = network_of("mlp"), random_tasks()
    for strength, rate, moves in ((1e-3, 0.5, True), (1e6, 1e-7, False)):
        path = built(engine, network, proximal=strength, lr=rate, steps=50).adaptation_path(batch, 50)
        assert torch.allclose(path[:, 0], path[:, -1], atol=1e-3) is not moves
