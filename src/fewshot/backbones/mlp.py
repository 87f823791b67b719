"""The fully connected Omniglot network (Finn et al. 2017, section 5.2; Santoro et al. 2016)."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from fewshot.backbones.backbone import Backbone
from fewshot.backbones.init import xavier_
from fewshot.backbones.norm import BatchNorm


class MLP(Backbone):
    """Hidden layers of linear map, batch normalisation and ReLU; on Omniglot 256, 128, 64 and 64 wide.

    Without the normalisation and 40, 40 wide it is the network of the sinusoids (Finn et al. 2017, section 5.1).

    Args:
        image_shape: shape of one input, flattened.
        hidden: widths of the hidden layers.
        normalise: whether hidden layers have batch normalisation.

    Shapes:
        ``(B, *image_shape)`` -> ``(B, out_features)``
    """

    def __init__(self, image_shape: Sequence[int], hidden: Sequence[int] = (256, 128, 64, 64), normalise: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise((prod(image_shape), *hidden)):
            layers += [nn.Linear(inputs, outputs), *([BatchNorm(outputs)] if normalise else []), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.input_shape = tuple(image_shape)
        self.out_features = hidden[-1]
        self.apply(xavier_)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.layers(x)
        return features
