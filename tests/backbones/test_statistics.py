"""Normalising many tasks in one pass, and the statistics that training leaves, against PyTorch's own layers."""

import pytest
import torch
from torch import nn

from fewshot.backbones.conv4 import Conv4
from fewshot.backbones.norm import BatchNorm, norm_mode
from fewshot.backbones.statistics import RunningStatistics, by_task
from fewshot.models.protonet import ProtoNet
from tests.models.model_tester import random_tasks

CHANNELS = (3, 5)


def network():
    """Two layers that scale and shift unevenly."""
    torch.manual_seed(0)
    layers = nn.Sequential(BatchNorm(CHANNELS[0]), nn.Conv2d(3, 5, 3), BatchNorm(CHANNELS[1])).double()
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return layers


def reference():
    """The same with PyTorch's layers."""
    ours = network()
    theirs = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)).double()
    theirs.load_state_dict(ours.state_dict(), strict=False)
    return theirs


def images(seed, rows=8):
    return 2 + 3 * torch.randn(rows, 3, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_with_one_task_a_step_they_are_those_of_pytorch():
    ours, theirs = network(), reference().train()
    statistics = RunningStatistics(ours).double()
    for step in range(4):
        with statistics.gathering(ours, tasks=1) as seen:
            outputs = ours(images(step))
        torch.testing.assert_close(outputs, theirs(images(step)))
        statistics.move(*seen)
    torch.testing.assert_close(statistics.mean, torch.cat([theirs[0].running_mean, theirs[2].running_mean]))
    torch.testing.assert_close(statistics.variance, torch.cat([theirs[0].running_var, theirs[2].running_var]))
    with statistics.applied(ours):
        torch.testing.assert_close(ours(images(9)), theirs.eval()(images(9)))


def test_several_tasks_move_them_by_their_mean():
    ours = network()
    statistics = RunningStatistics(ours).double()
    with statistics.gathering(ours, tasks=2) as seen:
        ours(torch.cat([images(0), images(1)]))
    statistics.move(*seen)
    each = []
    for seed in range(2):
        theirs = reference().train()
        theirs(images(seed))
        each.append(torch.cat([theirs[0].running_mean, theirs[2].running_mean]))
    torch.testing.assert_close(statistics.mean, torch.stack(each).mean(dim=0))


@pytest.mark.parametrize("first", [None, 3])
def test_tasks_in_one_pass_are_as_if_alone(first):
    ours = network()
    with by_task(2, first):
        together = ours(torch.cat([images(0), images(1)]))
    for task, outputs in enumerate(together.chunk(2)):
        if first is None:
            alone = ours(images(task))
        else:
            with norm_mode(rows=first):
                alone = ours(images(task))
        torch.testing.assert_close(outputs, alone)


def test_of_the_first_rows_alone_they_are_gathered():
    ours = network()
    found = []
    for rows in (images(0), torch.cat([images(0)[:4], 7 * images(1)[:4]])):
        statistics = RunningStatistics(ours).double()
        with statistics.gathering(ours, tasks=1, first=4) as seen:
            ours(rows)
        statistics.move(*seen)
        found.append(statistics.mean.clone())
    assert torch.equal(*found)


def test_nothing_moves_but_by_what_was_gathered():
    ours = network()
    statistics = RunningStatistics(ours).double()
    before = {name: value.clone() for name, value in statistics.state_dict().items()}
    with statistics.gathering(ours, tasks=1):
        ours(images(0))
    with statistics.applied(ours):
        ours(images(0))
    with by_task(2):
        ours(images(0))
    assert all(torch.equal(value, before[name]) for name, value in statistics.state_dict().items())


@pytest.mark.parametrize("loaded", [False, True])
def test_a_module_taken_out_of_a_model_computes_what_the_model_does(loaded):
    def made():
        torch.manual_seed(0)
        backbone = Conv4((1, 16, 16), filters=3, downsample="stride")
        return ProtoNet(backbone=backbone, batch_norm="running", optimizer=torch.optim.SGD)

    model, batch = made(), random_tasks()
    for _ in range(3):
        _, _, *seen = model.meta_gradient(batch)
        model.move_averages(*seen)
    if loaded:
        state, model = model.state_dict(), made()
        model.load_state_dict(state)
    assert not any(name.endswith((".mean", ".variance")) for name in model.state_dict() if name.startswith("network"))
    images = batch.support_x[0]
    with torch.no_grad(), model.in_evaluation(batch):
        expected = model.features(images)
    features = model.network["features"].eval()
    with torch.no_grad():
        assert torch.equal(features(images), expected)
        torch.testing.assert_close(features(images[:1]), expected[:1])
        torch.testing.assert_close(torch.export.export(features, (images,)).module()(images), expected)
        assert not torch.allclose(features.train()(images), expected)
