"""What no task adapts is computed once for all inner steps, and not where steps differ in it."""

import pytest
import torch
from torch import nn

from fewshot.backbones.norm import BatchNorm
from fewshot.inner.engine import engine_kind
from fewshot.inner.frozen_features import split
from fewshot.inner.reptile import Reptile
from fewshot.inner.unrolled import Unrolled
from tests.inner.engine_tester import (
    gradients,
    network_of,
    random_tasks,
    sums_of_features,
    uneven_rates,
    with_norms_for_each_step,
)

ENGINES = pytest.mark.parametrize("kind", ["functional", "vectorized"])
HEAD = ("1.*",)


def built(kind, network, batch_norm="transductive", task_init=None, loop=Unrolled, **options):
    inner = loop(**({"lr": 0.3, "steps": 3, "eval_steps": 3, "adapt": HEAD} | options))
    return engine_kind(kind)(network, inner, uneven_rates(inner, network), nn.functional.cross_entropy, batch_norm, task_init)


def split_of(engine):
    return split(engine.fast_weights(engine.kind, engine.network), engine.inner)


@pytest.mark.parametrize(("batch_norm", "passes"), [("transductive", 2), ("inductive", 1)])
@pytest.mark.parametrize("by_steps", [False, True], ids=["all steps", "step by step"])
@ENGINES
def test_the_body_is_passed_once_by_each_set(kind, by_steps, batch_norm, passes):
    network = network_of("conv4")
    engine = built(kind, network, batch_norm, checkpoint_steps=by_steps)
    passed = []
    network[0].register_forward_hook(lambda *_: passed.append(1))
    batch = random_tasks(2)
    engine.meta_gradient(batch, 2)
    assert len(passed) == 2 * passes  # a chunk a task
    engine.adaptation_path(batch, 3)
    assert len(passed) == 2 * 2 * passes


@pytest.mark.parametrize("by_steps", [False, True], ids=["all steps", "step by step"])
@ENGINES
def test_a_frozen_body_has_no_gradient_and_the_head_the_same(kind, by_steps):
    found = []
    for frozen in (False, True):
        network = network_of("conv4")
        network[0].requires_grad_(not frozen)
        built(kind, network, checkpoint_steps=by_steps).meta_gradient(random_tasks(), 2)
        assert all((parameter.grad is None) is frozen for parameter in network[0].parameters())
        found.append(gradients(network[1]))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@ENGINES
def test_where_steps_differ_nothing_is_split(kind):
    def is_split(**options):
        network = options.pop("network", None) or network_of("conv4")
        task_init = options.pop("task_init", None)
        return split_of(built(kind, network, task_init=task_init, **options)) is not None

    assert is_split()
    assert not is_split(adapt=("*",))
    assert not is_split(adapt=("0.*",))
    assert not is_split(adapt=("*.bias",))
    assert not is_split(network=with_norms_for_each_step(network_of("conv4"), 3))
    assert not is_split(loop=Reptile)  # it sees support and query set together
    network = network_of("conv4")
    assert not is_split(network=network, task_init=sums_of_features(network))


def test_the_parts_are_the_network():
    network = network_of("conv4")
    body, head = split_of(built("functional", network))
    assert any(isinstance(module, BatchNorm) for module in body.modules())
    assert [*body.parameters(), *head.network.parameters()] == list(network.parameters())
