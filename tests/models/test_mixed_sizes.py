"""Tests of meta-batches whose tasks differ in size: a list of entries counts each task alike, however processes share them."""

import pytest
import torch

from fewshot.data.meta_batches import Share
from fewshot.inner.unrolled import Unrolled
from fewshot.models.baseline import Baseline
from fewshot.models.maml import MAML
from fewshot.models.protonet import ProtoNet
from fewshot.models.r2d2 import R2D2
from fewshot.models.simpleshot import SimpleShot
from fewshot.tasks.batch import count_tasks
from tests.models.model_tester import sgd, small_backbone
from tests.toy import TrainTasks

WAYS = (2, 5)
OTHERS = {"batch_norm": "running", "optimizer": sgd}
MODELS = {
    "maml": lambda net: MAML(net, WAYS, WAYS, Unrolled(0.1, 2, 2), "functional", "transductive", sgd),
    "maml vectorized": lambda net: MAML(net, WAYS, WAYS, Unrolled(0.1, 2, 2), "vectorized", "transductive", sgd),
    "protonet": lambda net: ProtoNet(backbone=net, **OTHERS),
    "r2d2": lambda net: R2D2(backbone=net, penalty=1.0, scale=1.0, **OTHERS),
    "baseline": lambda net: Baseline(backbone=net, classes=10, epochs=2, batch_size=4, lr=0.01, **OTHERS),
    "simpleshot": lambda net: SimpleShot(backbone=net, classes=10, **OTHERS),
}


def entries_of(data, share):
    return [
        tasks.with_inputs(tasks.support_x.double(), tasks.query_x.double())
        for tasks in data.scaled(data.meta_batches("train", 8, share).meta_batch(0))
    ]


def gradient(model, entries):
    """What `MetaLearner.training_step` averages over processes, the mean over the tasks of one."""
    model.zero_grad()
    _, _, *seen = zip(*(model.meta_gradient(tasks, count_tasks(entries)) for tasks in entries), strict=True)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    return torch.cat([values.flatten() for values in (*gradients, *(sum(of_parts) for of_parts in seen))])


@pytest.mark.parametrize("name", MODELS)
def test_two_processes_of_four_equal_one_of_eight(toy_data, name):
    data = toy_data(meta_batch_size=8, train=TrainTasks(WAYS, (1, 3), 2))
    data.setup("fit")
    torch.manual_seed(0)
    model = MODELS[name](small_backbone())
    model.double()
    whole, parts = entries_of(data, Share()), [entries_of(data, Share(rank, 2)) for rank in range(2)]
    assert len(whole) > 3
    assert [count_tasks(part) for part in parts] == [4, 4]
    expected = gradient(model, whole)
    assert expected.abs().max() > 0
    found = sum(gradient(model, part) for part in parts) / 2
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
    for tasks in whole:
        outputs = model.eval().evaluate(tasks)
        assert outputs.shape[-2:] == (tasks.ways * 2, tasks.ways)
