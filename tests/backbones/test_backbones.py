"""The networks: as large as published, and what they promise of their outputs."""

import pytest
import torch
from torch import nn

from fewshot.backbones.conv4 import Conv4
from fewshot.backbones.mlp import MLP
from fewshot.backbones.norm import BatchNorm
from fewshot.backbones.resnet12 import ResNet12
from fewshot.backbones.resnet18 import ResNet18
from fewshot.backbones.wrn import WideResNet
from fewshot.errors import UserError

SMALL, LARGE = (1, 28, 28), (3, 84, 84)
BACKBONES = {
    "conv4-mini": (LARGE, lambda: Conv4(LARGE, filters=32)),
    "conv4-omniglot": (SMALL, lambda: Conv4(SMALL, filters=64, downsample="stride", global_pool=True)),
    "conv4-glyphs": (SMALL, lambda: Conv4(SMALL, filters=48, downsample="stride")),
    "mlp": (SMALL, lambda: MLP(SMALL)),
    "resnet12": (LARGE, lambda: ResNet12(LARGE, widths=(4, 8, 12, 16))),
    "resnet18": (LARGE, lambda: ResNet18(LARGE, width=4)),
    "resnet18-small": (SMALL, lambda: ResNet18(SMALL, width=4)),
    "wrn": (LARGE, lambda: WideResNet(LARGE, depth=10, widen=1)),
    "wrn-small": (SMALL, lambda: WideResNet(SMALL, depth=16, widen=1)),
    "conv4-two-poolings": (SMALL, lambda: Conv4(SMALL, filters=4, pooled_blocks=2)),
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


def test_sines_begin_with_frequencies_up_to_the_largest_and_with_any_phase():
    network = MLP((1,), (500, 7), normalise=False, frequency=15.0)
    first, second = (layer for layer in network.layers if isinstance(layer, nn.Linear))
    for values, largest in ((first.weight, 15.0), (first.bias, torch.pi)):
        assert 0.97 * largest < values.abs().max() <= largest
        assert values.std().item() == pytest.approx(largest / 3**0.5, rel=0.1)
    x = torch.linspace(-2, 2, 5)[:, None]
    torch.testing.assert_close(network(x), (first(x).sin() @ second.weight.mT + second.bias).sin())
    with pytest.raises(UserError, match=r"model\.backbone\.frequency=0 must be"):
        MLP((1,), frequency=0)


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


def test_meta_baselines_resnet12_is_smaller():
    """By hand: three 3x3 convolutions and a 1x1 one a block, and two numbers a channel of four norms."""
    widths = (64, 128, 256, 512)
    expected = sum(9 * a * b + 2 * 9 * b * b + a * b + 4 * 2 * b for a, b in zip((3, *widths), widths, strict=False))
    assert parameters(ResNet12((3, 84, 84), widths=widths)) == expected


def test_resnet18_has_as_many_parameters_as_he_et_als_but_for_the_first_layer():
    """Torchvision's 11,689,512 less its classifier and its 7x7 convolution, plus the 3x3 one."""
    assert parameters(ResNet18((3, 84, 84))) == 11_689_512 - 513_000 - 7 * 7 * 3 * 64 + 3 * 3 * 3 * 64


def test_wrn_28_10_has_as_many_parameters_as_published():
    """36.5 million (Zagoruyko & Komodakis 2016, table 4): 36,479,194 with a classifier of ten classes."""
    assert parameters(WideResNet((3, 32, 32))) == 36_479_194 - 6_410


@pytest.mark.parametrize("depth", [28.5, 27, 4])
def test_a_wide_network_of_another_depth_is_refused(depth):
    with pytest.raises(UserError, match=r"model\.backbone\.depth"):
        WideResNet(SMALL, depth=depth)


@pytest.mark.parametrize("name", [name for name in BACKBONES if name != "mlp"])
def test_features_are_made_of_maps(name):
    """Their mean over positions, or all of them."""
    image_shape, make = BACKBONES[name]
    backbone, x = make(), torch.rand(3, *image_shape)
    maps = backbone.maps(x)
    expected = maps.flatten(1) if backbone.out_features != maps.shape[1] else maps.mean(dim=(2, 3))
    torch.testing.assert_close(backbone(x), expected)


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
