"""ResNet-18 for small images (He et al. 2016, as Wang et al. 2019 and Boudiaf et al. 2020 have it)."""

from collections.abc import Sequence

from torch import Tensor, nn

from fewshot.backbones.conv import Conv2d
from fewshot.backbones.convolutional import ConvolutionalBackbone, conv3x3
from fewshot.backbones.init import kaiming_
from fewshot.backbones.norm import BatchNorm
from fewshot.backbones.pool import PositionMean


class ResNet18(ConvolutionalBackbone):
    """A 3x3 convolution, four stages of two basic blocks with 64 to 512 channels, and the mean over positions.

    The network for ImageNet begins with a 7x7 convolution and a pooling that leave little of an 84x84 image.

    Args:
        image_shape: ``(C, H, W)``
        width: channels of the first stage; each later one has twice as many.

    Shapes:
        ``(B, C, H, W)`` -> ``(B, 8*width)``
    """

    def __init__(self, image_shape: Sequence[int], width: int = 64) -> None:
        super().__init__()
        self.input_shape = self.require_images(image_shape)
        self.blocks = nn.Sequential(conv3x3(image_shape[0], width), BatchNorm(width), nn.ReLU())
        channels = width
        for stage in range(4):
            for block in range(2):
                outputs = width * 2**stage
                self.blocks.append(_Block(channels, outputs, stride=2 if stage and not block else 1))
                channels = outputs
        self.blocks.append(PositionMean())
        self.out_features = channels
        kaiming_(self, "relu")


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            conv3x3(inputs, outputs, stride), BatchNorm(outputs), nn.ReLU(), conv3x3(outputs, outputs), BatchNorm(outputs)
        )
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False), BatchNorm(outputs))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.residual(x) + self.shortcut(x))
        return out
