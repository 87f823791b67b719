"""Relation networks: scores of pairs of maps."""

import pytest
import torch

from fewshot.backbones.mlp import MLP
from fewshot.errors import UserError
from fewshot.models.relationnet import Relation, RelationNet
from tests.models.model_tester import ModelTester, sgd, small_backbone


def make(**changes):
    options = {"backbone": small_backbone(), "batch_norm": "running", "optimizer": sgd, "filters": 6, "hidden": 4}
    return RelationNet(**(options | changes))


class TestRelationNet(ModelTester):
    blind_to_copies = False
    """A class is the sum of its maps."""
    learning_rate = 0.01
    steps = 300

    def make(self, **changes):
        return make(**changes)


def test_a_pair_is_the_sum_of_a_class_beside_a_query():
    model = make()
    support, query = torch.randn(1, 4, 6, 1, 1), torch.randn(1, 3, 6, 1, 1)
    with torch.no_grad():
        scores = model.compare(support, torch.tensor([[0, 1, 0, 1]]), query)[0]
        for k in range(2):
            pairs = torch.cat([(support[0, k] + support[0, k + 2]).expand(3, -1, -1, -1), query[0]], dim=1)
            seen = torch.stack([torch.cat([(support[0, j] + support[0, j + 2]), q]) for q in query[0] for j in range(2)])
            torch.testing.assert_close(seen[k::2], pairs)
        torch.testing.assert_close(scores, model.network["relation"](seen).view(3, 2))


def test_the_loss_is_the_squared_error_of_all_pairs():
    """By hand: (0.1^2 + 0.2^2) / 2 and (0.5^2 + 0.5^2) / 2."""
    losses = make().query_losses(torch.tensor([[0.9, 0.2], [0.5, 0.5]]), torch.tensor([0, 1]))
    assert losses.tolist() == pytest.approx([0.025, 0.25])


def test_scores_lie_between_0_and_1_whatever_the_maps():
    for positions in ((1, 1), (2, 2), (5, 5), (3, 7)):
        scores = Relation(4, positions, filters=6, hidden=3)(100 * torch.randn(9, 8, *positions))
        assert scores.shape == (9, 1)
        assert ((scores >= 0) & (scores <= 1)).all()


def test_a_network_without_maps_is_refused():
    with pytest.raises(UserError, match=r"model\.backbone: MLP has no feature maps"):
        make(backbone=MLP((1, 16, 16), hidden=(6,)))


def test_inductive_statistics_are_refused():
    with pytest.raises(UserError, match=r"model\.batch_norm=inductive does not fit RelationNet"):
        make(batch_norm="inductive")
