"""The forecast of an outer step's memory, against what PyTorch's allocator says of the whole step."""

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from fewshot.backbones.conv4 import Conv4
from fewshot.inner.engine import engine_kind
from fewshot.inner.memory import forecast
from fewshot.inner.unrolled import Unrolled
from fewshot.tasks.batch import TaskBatch, TaskRows

WAYS, TASKS = 5, 6


def tasks_of(size):
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(TASKS, WAYS * of_each, 1, size, size, generator=generator) for of_each in (1, 3)]
    labels = [torch.arange(WAYS).repeat_interleave(of_each).repeat(TASKS, 1) for of_each in (1, 3)]
    return TaskBatch(images[0], labels[0], images[1], labels[1], TaskRows(torch.arange(TASKS)))


def allocated(function):
    """The most bytes that the allocator had handed out at a time, from its own record of every block."""
    function()  # what is set up once is not the step's
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        function()
    now = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


@pytest.mark.slow
@pytest.mark.parametrize("by_steps", [False, True], ids=["all steps", "step by step"])
@pytest.mark.parametrize(
    ("engine", "chunk", "at_once"), [("functional", None, 1), ("vectorized", None, 3), ("vectorized", 4, 2)]
)
def test_it_is_right_within_a_fifth(engine, chunk, at_once, by_steps):
    torch.manual_seed(0)
    backbone = Conv4((1, 28, 28), filters=16)
    network = nn.Sequential(backbone, nn.Linear(backbone.out_features, WAYS))
    inner = Unrolled(lr=0.1, steps=4, eval_steps=4, task_chunk=chunk, checkpoint_steps=by_steps)
    built = engine_kind(engine)(network, inner, inner.new_rates(network), nn.functional.cross_entropy, "transductive")
    batch = tasks_of(28)
    said = forecast(built, batch)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert (said.steps, said.tasks) == (4, at_once)
    assert said.bytes == pytest.approx(allocated(lambda: built.meta_gradient(batch, TASKS)), rel=0.2)
    if not by_steps:
        assert said.bytes_by_steps < 0.7 * said.bytes
        assert str(said).startswith(f"4 inner steps x {at_once} task")
        assert "with model.inner.checkpoint_steps=true" in str(said)


def test_learn2learn_has_one_task_in_memory_and_all_its_steps():
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, WAYS))
    inner = Unrolled(lr=0.1, steps=2, eval_steps=2)
    rates = inner.new_rates(network)
    built = engine_kind("learn2learn")(network, inner, rates, nn.functional.cross_entropy, "transductive")
    batch = tasks_of(28)
    said = forecast(built, batch)
    assert said.bytes == pytest.approx(allocated(lambda: built.meta_gradient(batch, TASKS)), rel=0.2)
    assert (said.tasks, said.bytes_by_steps) == (1, None)
