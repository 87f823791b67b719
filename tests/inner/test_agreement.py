"""All engines agree, whatever the network, the shapes and the settings."""

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from fewshot.backbones.conv4 import Conv4
from fewshot.backbones.mlp import MLP
from fewshot.backbones.resnet12 import ResNet12
from fewshot.inner.annealing import Annealing
from fewshot.inner.engine import engine_kind
from fewshot.inner.unrolled import Unrolled
from fewshot.tasks.batch import TaskBatch, TaskRows
from tests.inner.engine_tester import uneven_rates

BACKBONES = {
    "conv4": lambda shape, width: Conv4(shape, filters=width),
    "conv4-stride": lambda shape, width: Conv4(shape, filters=width, downsample="stride", global_pool=True),
    "resnet12": lambda shape, width: ResNet12(shape, widths=(width, width, width + 1, width)),
    "mlp": lambda shape, width: MLP(shape, hidden=(width, width + 1)),
}

OUTER_STEP = 6
"""With second derivatives, and all query losses."""


@st.composite
def problems(draw):
    """A network, tasks for it, and what is done with them."""
    ways, shots, queries, tasks = (draw(st.integers(least, 3)) for least in (2, 1, 1, 1))
    shape = (draw(st.integers(1, 3)), draw(st.integers(16, 19)), draw(st.integers(16, 19)))
    torch.manual_seed(draw(st.integers(0, 1000)))
    backbone = BACKBONES[draw(st.sampled_from(sorted(BACKBONES)))](shape, draw(st.integers(1, 3)))
    network = nn.Sequential(backbone, nn.Linear(backbone.out_features, ways)).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    labels = [torch.arange(ways).repeat_interleave(of_each).repeat(tasks, 1) for of_each in (shots, queries)]
    images = [torch.rand(tasks, labels[i].shape[1], *shape, dtype=torch.float64) for i in (0, 1)]
    steps, annealing = draw(st.integers(1, 3)), draw(st.sampled_from([None, Annealing(10, multi_step=0.8, first_order=0.5)]))
    inner = Unrolled(
        lr=draw(st.sampled_from([0.01, 0.1])),
        steps=steps,
        eval_steps=steps + 1,
        first_order=annealing is None and draw(st.booleans()),
        adapt_norm=draw(st.booleans()),
        adapt=draw(st.sampled_from([("*",), ("1.*",), ("0.*",), ("*.weight",)])),
        rates=draw(st.sampled_from(["fixed", "per_step", "per_element"])),
        transform=draw(st.sampled_from(["none", "meta_curvature", "kronecker"])),
        proximal=draw(st.sampled_from([0, 0.5])),
        annealing=annealing,
        task_chunk=draw(st.sampled_from([None, 1, 2])),
    )
    mode = draw(st.sampled_from(["transductive", "inductive"]))
    return network, TaskBatch(images[0], labels[0], images[1], labels[1], TaskRows(torch.arange(tasks))), inner, mode


def outcome(engine, network, batch):
    """Losses, outputs, path and gradients."""
    network.zero_grad()
    results = [*engine.meta_gradient(batch, len(batch), OUTER_STEP), engine.adaptation_path(batch, engine.inner.eval_steps)]
    # What no output depends on has no gradient, and may be told to have one of 0.
    parameters = [*network.parameters(), *engine.rates.parameters()]
    return results + [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]


@pytest.mark.slow
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(problems())
def test_engines_agree(problem):
    network, batch, inner, mode = problem
    outcomes = {}
    for engine, checkpoint in (
        ("learn2learn", False),
        ("functional", False),
        ("functional", True),
        ("vectorized", False),
        ("vectorized", True),
    ):
        described = replace(inner, checkpoint_steps=checkpoint)
        rates = uneven_rates(described, network)
        built = engine_kind(engine)(network, described, rates, nn.functional.cross_entropy, mode)
        outcomes[engine, checkpoint] = outcome(built, network, batch)
    expected = outcomes["learn2learn", False]
    for found in outcomes.values():
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)
