"""The networks: as large as published, and what they promise of their outputs."""

import pytest
import torch
from torch import nn

from fewshot.backbones.conv4 import Conv4
from fewshot.backbones.mlp import MLP
from fewshot.backbones.norm import BatchNorm
from fewshot.backbones.resnet12 import ResNet12
from fewshot.errors import UserError

SMALL, LARGE = (1, 28, 28), (3, 84, 84)
BACKBONES = {
    "conv4-mini": (LARGE, lambda: Conv4(LARGE, filters=32)),
    "conv4-omniglot": (SMALL, lambda: Conv4(SMALL, filters=64, downsample="stride", global_pool=True)),
    "conv4-glyphs": (SMALL, lambda: Conv4(SMALL, filters=48, downsample="stride")),
    "mlp": (SMALL, lambda: MLP(SMALL)),
    "resnet12": (LARGE, lambda: ResNet12(LARGE, widths=(4, 8, 12, 16))),
    "resnet12-small": (SMALL, lambda: ResNet12(SMALL, widths=(4, 8, 12, 16))),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_features_have_the_promised_number_and_are_finite(name):
    image_shape, make = BACKBONES[name]
    backbone = make()
    features = backbone(torch.rand(3, *image_shape))
    assert features.shape == (3, backbone.out_features)
    assert features.isfinite().all()


@pytest.mark.parametrize("name", BACKBONES)
def test_no_network_remembers_what_it_has_seen(name):
    assert list(BACKBONES[name][1]().buffers()) == []


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_conv4_has_as_many_parameters_as_published():
    """By hand: 3x3 convolutions with bias, two numbers a channel of each norm, and a linear head for 5 classes."""
    mini, omniglot = BACKBONES["conv4-mini"][1](), BACKBONES["conv4-omniglot"][1]()
    assert mini.out_features == 32 * 5 * 5
    assert omniglot.out_features == 64
    assert parameters(mini) == (9 * 3 * 32 + 32) + 3 * (9 * 32 * 32 + 32) + 4 * 2 * 32
    assert parameters(omniglot) == (9 * 64 + 64) + 3 * (9 * 64 * 64 + 64) + 4 * 2 * 64


def test_resnet12_has_as_many_parameters_as_metaoptnets():
    """12.4 million (Lee et al. 2019 and its code: 12,424,320)."""
    assert parameters(ResNet12((3, 84, 84))) == 12_424_320


def test_pooling_before_relu_changes_nothing():
    backbone = Conv4((1, 28, 28), filters=8).double()
    published = nn.Sequential(
        *[nn.Sequential(convolution, norm, relu, pool) for convolution, norm, pool, relu in list(backbone.blocks)[:4]],
        nn.Flatten(),
    )
    x = torch.rand(5, 1, 28, 28, dtype=torch.float64)
    assert torch.equal(backbone(x), published(x))


def test_weights_start_as_in_the_published_code():
    backbone = Conv4((1, 28, 28), filters=64)
    convolution = backbone.blocks[1][0]
    bound = (6 / (9 * 64 + 9 * 64)) ** 0.5
    assert convolution.weight.abs().max() <= bound
    assert convolution.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not convolution.bias.any()
    norms = [module for module in backbone.modules() if isinstance(module, BatchNorm)]
    assert all((norm.weight == 1).all() and not norm.bias.any() for norm in norms)


def test_an_image_that_vanishes_is_refused():
    with pytest.raises(UserError, match=r"data\.image_shape=\[1, 12, 12\].*downsample=stride"):
        Conv4((1, 12, 12))
    assert Conv4((1, 12, 12), downsample="stride")(torch.rand(2, 1, 12, 12)).shape == (2, 32)


def test_an_unknown_downsampling_is_refused():
    with pytest.raises(UserError, match=r"model\.backbone\.downsample=max is unknown; choose max_pool or stride"):
        Conv4((1, 28, 28), downsample="max")
