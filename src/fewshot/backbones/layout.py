"""How images lie in memory."""

import torch
from torch import Tensor


def fastest_layout(images: Tensor) -> Tensor:
    """Images ``(B, C, H, W)`` as their device works on them fastest; other inputs as they are.

    On a processor the channels of a place are neighbours: pooling and normalisation run along them, and a strided convolution's
    gradient is twice as fast.
    """
    if images.ndim != 4 or images.device.type != "cpu":
        return images
    _, channels, height, width = images.shape
    # With one channel both layouts are the same but for the strides, which are what PyTorch goes by.
    strides = (channels * height * width, 1, channels * width, channels)
    return images.contiguous(memory_format=torch.channels_last).as_strided(images.shape, strides)
