"""ProtoNet: the squared distance to the mean."""

import pytest
import torch
from learn2learn.nn import PrototypicalClassifier

from fewshot.models.protonet import ProtoNet, squared_distances
from tests.models.model_tester import ModelTester, sgd, small_backbone


def make(**changes):
    return ProtoNet(**({"backbone": small_backbone(), "batch_norm": "running", "optimizer": sgd} | changes))


class TestProtoNet(ModelTester):
    def make(self, **changes):
        return make(**changes)


def test_outputs_are_negative_squared_distances_to_the_means():
    """By hand: means (1, 0) and (0, 4); from (1, 2) they are 2 and sqrt 5 away."""
    support = torch.tensor([[[0.0, 0.0], [0.0, 3.0], [2.0, 0.0], [0.0, 5.0]]])
    outputs = make().compare(support, torch.tensor([[0, 1, 0, 1]]), torch.tensor([[[1.0, 2.0]]]))
    assert outputs.tolist() == [[[-4.0, -5.0]]]


def test_it_equals_learn2learns():
    support, query, labels = torch.randn(1, 6, 5), torch.randn(1, 7, 5), torch.tensor([[0, 0, 1, 1, 2, 2]])
    reference = PrototypicalClassifier(support[0], labels[0])
    torch.testing.assert_close(make().compare(support, labels, query)[0], reference(query[0]))


def test_equal_points_have_distance_0():
    points = torch.randn(2, 3, 4)
    assert squared_distances(points, points).diagonal(dim1=1, dim2=2).eq(0).all()


@pytest.mark.parametrize("batch_norm", ["transductive", "inductive"])
class TestBatchNorm:
    def test_modes_without_a_memory_ignore_the_training_statistics(self, batch_norm):
        """Other statistics change what the running mode says, and nothing else."""
        tester = TestProtoNet()
        model = tester.trained(batch_norm=batch_norm)
        from tests.models.model_tester import random_tasks

        before = model.evaluate(random_tasks())
        with torch.no_grad():
            model.statistics.mean += 1
        assert torch.equal(model.evaluate(random_tasks()), before)
