"""Multiply-adds, counted by hand."""

import torch
from torch import nn

from fewshot.backbones.conv4 import Conv4
from fewshot.models.cost import multiply_adds


def test_a_strided_conv4_costs_what_its_convolutions_cost():
    """Each of the positions that a convolution leaves takes 3x3 times channels in times channels out."""
    expected = sum(side**2 * 9 * inputs * 8 for side, inputs in ((14, 1), (7, 8), (4, 8), (2, 8)))
    assert multiply_adds(Conv4((1, 28, 28), filters=8, downsample="stride"), (1, 28, 28)) == expected


def test_a_linear_layer_costs_its_weights():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    state = torch.get_rng_state()
    assert multiply_adds(network, (3, 2, 2)) == 60
    assert torch.equal(torch.get_rng_state(), state)
