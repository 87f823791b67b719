"""Memory layout of images."""

import torch
from torch import Tensor


def fastest_layout(images: Tensor) -> Tensor:
    """Images ``(B, C, H, W)`` in the fastest layout of their device; other inputs unchanged.

    On a CPU that is channels-last: pooling and normalisation run along the channels, and the gradient of a strided convolution
    is twice as fast.
    """
    if images.ndim != 4 or images.device.type != "cpu":
        return images
    _, channels, height, width = images.shape
    # With one channel both layouts differ in their strides alone, and PyTorch decides by the strides.
    strides = (channels * height * width, 1, channels * width, channels)
    return images.contiguous(memory_format=torch.channels_last).as_strided(images.shape, strides)
