"""Conv4: four convolutional blocks (Vinyals et al. 2016; Finn et al. 2017, section 5.2 and code)."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from fewshot.backbones.conv import Conv2d
from fewshot.backbones.convolutional import ConvolutionalBackbone
from fewshot.backbones.fused import conv_norm_pool_relu, may_fuse
from fewshot.backbones.init import xavier_
from fewshot.backbones.norm import BatchNorm, of_whole_batch
from fewshot.backbones.pool import MaxPool, PositionMean
from fewshot.errors import UserError


class Conv4(ConvolutionalBackbone):
    """Four blocks of 3x3 convolution, batch normalisation and ReLU, each halving the image.

    As published: on Omniglot 64 filters, strided convolutions and the mean over positions; on mini-ImageNet 32 filters, 2x2
    max-pooling and all positions as features (MAML++: 48, the ProtoNet family: 64; Relation Networks pool in two blocks only).

    Args:
        image_shape: ``(C, H, W)``
        filters: channels of every block.
        downsample: ``max_pool`` after each block, or ``stride`` 2 in each convolution.
        global_pool: features are the mean over positions instead of all positions.
        pooled_blocks: how many blocks, from the first, halve the image.

    Shapes:
        ``(B, C, H, W)`` -> ``(B, out_features)``
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        filters: int = 32,
        downsample: str = "max_pool",
        global_pool: bool = False,
        pooled_blocks: int = 4,
    ) -> None:
        super().__init__()
        if downsample not in ("max_pool", "stride"):
            raise UserError(f"model.backbone.downsample={downsample} is unknown; choose max_pool or stride")
        self.input_shape = self.require_images(image_shape)
        channels, height, width = image_shape
        pooled = downsample == "max_pool"
        if pooled_blocks not in range(5):
            raise UserError(f"model.backbone.pooled_blocks={pooled_blocks} must be a number from 0 to 4")
        if pooled and min(height, width) < 2**pooled_blocks:
            raise UserError(
                f"data.image_shape={list(image_shape)} vanishes in Conv4's poolings; "
                f"choose images of at least {2**pooled_blocks}x{2**pooled_blocks}, or model.backbone.downsample=stride"
            )
        blocks = [
            _block(channels if i == 0 else filters, filters, downsample if i < pooled_blocks else "none") for i in range(4)
        ]
        self.blocks = nn.Sequential(*blocks, PositionMean() if global_pool else nn.Flatten())
        for _ in range(pooled_blocks):
            height, width = (height // 2, width // 2) if pooled else ((height + 1) // 2, (width + 1) // 2)
        self.out_features = filters if global_pool else filters * height * width
        self.apply(xavier_)


def _block(inputs: int, outputs: int, downsample: str) -> nn.Sequential:
    conv = Conv2d(inputs, outputs, kernel_size=3, padding=1, stride=2 if downsample == "stride" else 1)
    if downsample == "max_pool":
        return _PooledBlock(conv, BatchNorm(outputs), MaxPool(), nn.ReLU())
    return nn.Sequential(conv, BatchNorm(outputs), nn.ReLU())


class _PooledBlock(nn.Sequential):
    """Convolution, normalisation, pooling, ReLU, in one operation where that pays.

    Max-pooling and ReLU commute, and pooling first leaves a quarter of the elements to the ReLU and its derivatives.
    """

    def forward(self, x: Tensor) -> Tensor:
        conv, norm = cast(Conv2d, self[0]), cast(BatchNorm, self[1])
        if may_fuse(x) and of_whole_batch() and isinstance(self[3], nn.ReLU):
            return conv_norm_pool_relu(x, conv.weight, cast(Tensor, conv.bias), *norm.scale_and_shift(), norm.eps)
        y: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return y
