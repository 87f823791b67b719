"""Low-rank updates of a network's weights: few numbers for an inner loop to adapt, whatever the size of the network.

Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen (2021), "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fewshot.backbones.backbone import Backbone
from fewshot.errors import UserError, check_int, check_positive


class LowRank(nn.Module):
    """``W + scale / rank * B A``, for a weight W seen as outputs times all else.

    B begins as zeros, so that the network computes what it did, to the bit.

    Attributes:
        lora_a: ``(rank, inputs)``
        lora_b: ``(outputs, rank)``
    """

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        self.lora_a = nn.Parameter(torch.empty(rank, weight[0].numel(), dtype=weight.dtype))
        self.lora_b = nn.Parameter(torch.zeros(len(weight), rank, dtype=weight.dtype))
        nn.init.kaiming_uniform_(self.lora_a, a=5**0.5)
        self._scale = scale / rank

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self._scale * self.lora_b @ self.lora_a).view(weight.shape)


class LoRA(Backbone):
    """Any backbone with low-rank updates of its linear and convolutional layers.

    Their names end in ``lora_a`` and ``lora_b``. Where the rest is frozen, they are all of the backbone that adapts and learns;
    else ``model.inner.adapt=["*.lora_*","head.*"]`` has tasks adapt them, and the outer loop learns the rest too.

    Args:
        backbone: that is updated.
        rank: of an update.
        scale: of an update (alpha); a larger one is a larger learning rate for B.
        layers: that are updated, as patterns of their names.
        freeze: whether the backbone's own weights stay as they are.
    """

    def __init__(
        self, backbone: Backbone, rank: int, scale: float, layers: Sequence[str] = ("*",), freeze: bool = True
    ) -> None:
        super().__init__()
        check_int("model.backbone.rank", rank, least=1)
        check_positive("model.backbone.scale", scale)
        places = {name: layer for name, layer in backbone.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
        idle = [pattern for pattern in layers if not any(fnmatchcase(name, pattern) for name in places)]
        if idle or not layers:
            raise UserError(
                f"model.backbone.layers={list(layers)}: {', '.join(idle) or 'it'} names no linear or convolutional layer of "
                f"{type(backbone).__name__}; those are {', '.join(places) or 'none'}"
            )
        chosen = [layer for name, layer in places.items() if any(fnmatchcase(name, pattern) for pattern in layers)]
        if freeze:
            backbone.requires_grad_(False)
        for layer in chosen:
            parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank, scale))
        self.backbone = backbone
        self.setting = f"(rank {rank}) of {backbone.title}"
        self.input_shape, self.out_features, self.ids = backbone.input_shape, backbone.out_features, backbone.ids

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone(x)

    def maps(self, x: Tensor) -> Tensor:
        return self.backbone.maps(x)
