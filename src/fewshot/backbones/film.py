"""Feature-wise linear modulation: a task's context modulates a network whose weights all tasks share."""

import torch
from torch import Tensor, nn

from fewshot.backbones.mlp import Sine
from fewshot.backbones.norm import BatchNorm
from fewshot.errors import UserError


class FiLM(nn.Module):
    """Scales and shifts each channel by a linear function of a context (Perez et al. 2018; Zintgraf et al. 2019, section 3.3).

    Args:
        channels: number of channels of the feature map.
        size: number of context parameters.

    Attributes:
        context: ``(size,)`` zeros, which the outer loop does not learn.

    Shapes:
        ``(B, channels, ...)`` -> the same
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.context = nn.Parameter(torch.zeros(size), requires_grad=False)
        self.generator = nn.Linear(size, 2 * channels)
        # As in the published code, where a linear layer's own bias is the scale and the shift that tasks begin with.
        nn.init.kaiming_uniform_(self.generator.weight, nonlinearity="linear")

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = self.generator(self.context).view(2, -1, *[1] * (x.ndim - 2))
        modulated: Tensor = scale * x + shift
        return modulated


def modulate_(backbone: nn.Module, layer: int, size: int) -> None:
    """Puts a `FiLM` before the `layer`-th ReLU (or sine) of a backbone, counted from 1.

    Raises:
        UserError: it has fewer.
    """
    places: list[tuple[str, int]] = []
    channels = 0
    for name, module in backbone.named_modules():
        if isinstance(module, BatchNorm):
            channels = module.weight.shape[-1]
        elif isinstance(module, nn.Linear):
            channels = module.out_features
        elif isinstance(module, nn.ReLU | nn.LeakyReLU | Sine):
            places.append((name, channels))
    if not 1 <= layer <= len(places):
        raise UserError(
            f"model.layer={layer} but {type(backbone).__name__} has {len(places)} activations; choose one from 1 to "
            f"{len(places)}"
        )
    name, channels = places[layer - 1]
    parent, _, key = name.rpartition(".")
    activation = backbone.get_submodule(name)
    setattr(backbone.get_submodule(parent), key, nn.Sequential(FiLM(channels, size), activation))
