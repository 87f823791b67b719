"""What convolutional backbones share: a chain of blocks, whose maps are pooled or flattened at the end."""

from torch import Tensor, nn

from fewshot.backbones.backbone import Backbone
from fewshot.backbones.conv import Conv2d
from fewshot.backbones.pool import PositionMean


class ConvolutionalBackbone(Backbone):
    """A backbone that is a chain.

    Attributes:
        blocks: its links; what makes features of maps is a `PositionMean` or a flattening.
    """

    blocks: nn.Sequential

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.blocks(x)
        return features

    def maps(self, x: Tensor) -> Tensor:
        for block in self.blocks.children():
            if not isinstance(block, PositionMean | nn.Flatten):
                x = block(x)
        return x


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> Conv2d:
    """A convolution that a normalisation follows, so that it needs no bias."""
    return Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
