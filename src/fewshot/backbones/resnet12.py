"""ResNet-12 for few-shot learning (Oreshkin et al. 2018; Lee et al. 2019, section 4.1)."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from fewshot.backbones.conv import Conv2d
from fewshot.backbones.convolutional import ConvolutionalBackbone, conv3x3
from fewshot.backbones.dropblock import DropBlock
from fewshot.backbones.init import kaiming_
from fewshot.backbones.norm import BatchNorm
from fewshot.backbones.pool import PositionMean
from fewshot.errors import UserError


class ResNet12(ConvolutionalBackbone):
    """Four residual blocks of three 3x3 convolutions with leaky ReLU, each halving the image, then the mean over positions.

    Widths 64-160-320-640 are those of MetaOptNet, 64-128-256-512 those of Meta-Baseline.

    Args:
        image_shape: ``(C, H, W)``
        widths: channels of the four blocks.
        drop_rate: share that is forgotten in training: of elements after the first two blocks, in squares of 5x5 positions
            (`DropBlock`) after the last two; MetaOptNet has 0.1 (there the squares' share rises to it over 40,000 steps). For
            models without an inner loop, which would adapt to what happened to be left.

    Shapes:
        ``(B, C, H, W)`` -> ``(B, widths[-1])``
    """

    def __init__(self, image_shape: Sequence[int], widths: Sequence[int] = (64, 160, 320, 640), drop_rate: float = 0.0) -> None:
        super().__init__()
        if not 0 <= drop_rate < 1:
            raise UserError(f"model.backbone.drop_rate={drop_rate} must be at least 0 and less than 1")
        if len(widths) != 4:
            raise UserError(f"model.backbone.widths={list(widths)} must be those of four blocks")
        drops = [nn.Dropout(drop_rate), nn.Dropout(drop_rate), DropBlock(drop_rate, 5), DropBlock(drop_rate, 5)]
        sizes = pairwise((image_shape[0], *widths))
        blocks = [_Block(*size, drop if drop_rate else None) for size, drop in zip(sizes, drops, strict=True)]
        self.blocks = nn.Sequential(*blocks, PositionMean())
        self.input_shape = self.require_images(image_shape)
        self.out_features = widths[-1]
        kaiming_(self, "leaky_relu")


class _Block(nn.Module):
    """Three convolutions beside a 1x1 shortcut, then 2x2 max-pooling (rounding up, so that small images keep a position)."""

    def __init__(self, inputs: int, outputs: int, drop: nn.Module | None) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_normalised(inputs, outputs),
            nn.LeakyReLU(0.1),
            *_normalised(outputs, outputs),
            nn.LeakyReLU(0.1),
            *_normalised(outputs, outputs),
        )
        self.shortcut = nn.Sequential(Conv2d(inputs, outputs, kernel_size=1, bias=False), BatchNorm(outputs))
        self.pool = nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), nn.LeakyReLU(0.1))
        if drop is not None:
            self.pool.append(drop)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pool(self.residual(x) + self.shortcut(x))
        return out


def _normalised(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module]:
    return conv3x3(inputs, outputs), BatchNorm(outputs)
