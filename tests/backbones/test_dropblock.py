"""DropBlock: how much it forgets, and when."""

import pytest
import torch
from torch import nn

from fewshot.backbones.dropblock import DropBlock
from fewshot.backbones.resnet12 import ResNet12
from fewshot.errors import UserError


def test_about_the_asked_share_is_forgotten_and_the_rest_made_up_for():
    torch.manual_seed(0)
    x = torch.ones(64, 32, 10, 10)
    y = DropBlock(0.1, 3).train()(x)
    assert (y == 0).float().mean().item() == pytest.approx(0.1, abs=0.015)
    assert y.mean().item() == pytest.approx(1, abs=1e-5)


def test_what_is_forgotten_are_squares():
    torch.manual_seed(0)
    gone = (DropBlock(0.02, 3).train()(torch.ones(200, 1, 9, 9)) == 0).float()
    assert gone.any()
    # Every forgotten position lies in a 3x3 square that is forgotten whole.
    whole = -nn.functional.max_pool2d(-gone, 3, stride=1)
    covered = nn.functional.max_pool2d(nn.functional.pad(whole, [2] * 4), 3, stride=1)
    assert torch.equal(covered, gone)


def test_a_map_smaller_than_the_square_is_forgotten_whole():
    torch.manual_seed(0)
    y = DropBlock(0.5, 5).train()(torch.ones(100, 2, 2, 2))
    assert set(y.flatten(2).std(dim=2).unique().tolist()) == {0.0}
    assert y.eq(0).any()


def test_in_evaluation_nothing_is_forgotten():
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(DropBlock(0.5, 3).eval()(x), x)


def test_resnet12_forgets_where_metaoptnets_does():
    """Elements after the first two blocks, squares of 5 after the last two; nothing is drawn at a rate of 0."""
    network = ResNet12((3, 32, 32), widths=(4, 4, 4, 4), drop_rate=0.1)
    assert [type(block.pool[-1]).__name__ for block in list(network.blocks)[:4]] == [*["Dropout"] * 2, *["DropBlock"] * 2]
    x = torch.rand(2, 3, 32, 32)
    assert not torch.equal(network.train()(x), network(x))
    assert torch.equal(network.eval()(x), network(x))
    without = ResNet12((3, 32, 32), widths=(4, 4, 4, 4)).train()
    assert torch.equal(without(x), without(x))


@pytest.mark.parametrize("changes", [{"drop_rate": 1.0}, {"widths": (4, 4, 4)}])
def test_what_makes_no_sense_is_refused(changes):
    with pytest.raises(UserError, match=r"model\.backbone\."):
        ResNet12((3, 32, 32), **changes)
