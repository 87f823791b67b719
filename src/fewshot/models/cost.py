"""Computational cost of a network's forward pass."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fewshot.backbones.backbone import blank_inputs
from fewshot.inner.call import preserve_buffers


def multiply_adds(network: nn.Module, input_shape: Sequence[int]) -> int:
    """Number of multiply-adds in convolutions and matrix products for one input.

    Args:
        input_shape: of one input, as ``(C, H, W)``.
    """
    with torch.no_grad(), preserve_buffers(network), FlopCounterMode(display=False) as counter:
        network(blank_inputs(network, input_shape))
    return int(counter.get_total_flops()) // 4
