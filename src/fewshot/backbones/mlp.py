"""The fully connected Omniglot network (Finn et al. 2017, section 5.2; Santoro et al. 2016), and networks of sines."""

from collections.abc import Sequence
from itertools import pairwise
from math import pi, prod

import torch
from torch import Tensor, nn

from fewshot.backbones.backbone import Backbone
from fewshot.backbones.init import xavier_
from fewshot.backbones.norm import BatchNorm
from fewshot.errors import check_positive


class Sine(nn.Module):
    """An activation (Sitzmann et al. 2020, "Implicit Neural Representations with Periodic Activation Functions")."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


class MLP(Backbone):
    """Hidden layers of linear map, batch normalisation and ReLU; on Omniglot 256, 128, 64 and 64 wide.

    Without the normalisation and 40, 40 wide it is the network of the sinusoids (Finn et al. 2017, section 5.1).

    Args:
        image_shape: shape of one input, flattened.
        hidden: widths of the hidden layers.
        normalise: whether hidden layers have batch normalisation.
        frequency: largest one, in radians for each unit of an input, that the first layer begins with: its weights are uniform
            up to it, its biases any phase, and activations are sines. None has ReLUs, which do not learn to turn so fast.

    Shapes:
        ``(B, *image_shape)`` -> ``(B, out_features)``
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        hidden: Sequence[int] = (256, 128, 64, 64),
        normalise: bool = True,
        frequency: float | None = None,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise((prod(image_shape), *hidden)):
            activation = nn.ReLU() if frequency is None else Sine()
            layers += [nn.Linear(inputs, outputs), *([BatchNorm(outputs)] if normalise else []), activation]
        self.layers = nn.Sequential(*layers)
        self.input_shape = tuple(image_shape)
        self.out_features = hidden[-1]
        self.apply(xavier_)
        if frequency is not None:
            check_positive("model.backbone.frequency", frequency)
            first = layers[1]
            nn.init.uniform_(first.get_parameter("weight"), -frequency, frequency)
            nn.init.uniform_(first.get_parameter("bias"), -pi, pi)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.layers(x)
        return features
