"""Wide residual networks: WRN-28-10 (Zagoruyko & Komodakis 2016)."""

from collections.abc import Sequence

from torch import Tensor, nn

from fewshot.backbones.conv import Conv2d
from fewshot.backbones.convolutional import ConvolutionalBackbone, conv3x3
from fewshot.backbones.init import kaiming_
from fewshot.backbones.norm import BatchNorm
from fewshot.backbones.pool import PositionMean
from fewshot.errors import UserError, check_int


class WideResNet(ConvolutionalBackbone):
    """A 3x3 convolution to 16 channels, three groups of blocks that normalise first, and the mean over positions.

    The groups have 16, 32 and 64 channels times `widen`; the second and third halve the image. The published dropout between
    a block's convolutions is left out.

    Args:
        image_shape: ``(C, H, W)``
        depth: convolutions in all, 6n + 4.
        widen: factor of the channels.

    Shapes:
        ``(B, C, H, W)`` -> ``(B, 64*widen)``
    """

    def __init__(self, image_shape: Sequence[int], depth: int = 28, widen: int = 10) -> None:
        super().__init__()
        check_int("model.backbone.widen", widen, least=1)
        if depth < 10 or depth % 6 != 4:
            raise UserError(f"model.backbone.depth={depth} must be 6n + 4, as 10, 16, 22 or 28")
        self.input_shape = self.require_images(image_shape)
        channels = 16
        self.blocks = nn.Sequential(conv3x3(image_shape[0], channels))
        for group in range(3):
            for block in range((depth - 4) // 6):
                outputs = 16 * widen * 2**group
                self.blocks.append(_Block(channels, outputs, stride=2 if group and not block else 1))
                channels = outputs
        self.blocks.extend([BatchNorm(channels), nn.ReLU(), PositionMean()])
        self.out_features = channels
        kaiming_(self, "relu")


class _Block(nn.Module):
    """Twice normalisation, ReLU and 3x3 convolution, beside the input or, where the size changes, its 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(BatchNorm(inputs), nn.ReLU())
        self.residual = nn.Sequential(
            conv3x3(inputs, outputs, stride), BatchNorm(outputs), nn.ReLU(), conv3x3(outputs, outputs)
        )
        self.resized = (
            Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False) if stride > 1 or inputs != outputs else None
        )

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.first(x)
        shortcut: Tensor = x if self.resized is None else self.resized(activated)
        out: Tensor = self.residual(activated) + shortcut
        return out
