"""Relation networks: a learned comparison of feature maps.

Sung, Yang, Zhang, Xiang, Torr, Hospedales (2018), "Learning to Compare: Relation Network for Few-Shot Learning", section 3.
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot.backbones.backbone import Backbone
from fewshot.backbones.conv import Conv2d
from fewshot.backbones.norm import BatchNorm
from fewshot.backbones.pool import MaxPool
from fewshot.errors import UserError
from fewshot.models.embedding import EmbeddingLearner
from fewshot.objectives import one_hot


class RelationNet(EmbeddingLearner):
    """Outputs are relation scores from 0 to 1, trained to be 1 for a query's class and 0 for the others (equation 2).

    A class is the *sum* of its support set's maps (section 3.2). The loss is the mean squared error over all pairs.
    Weights start as PyTorch's layers do; the published code draws them from normal distributions.

    Args:
        backbone: a convolutional one, whose maps before the last pooling are compared.
        filters: of the relation module's convolutions.
        hidden: units of its hidden layer.
        batch_norm: ``running`` or ``transductive``; what is normalised in the relation module are pairs of support and query.
        embedding: what all models of this kind take (`EmbeddingLearner`).
    """

    inputs: ClassVar[tuple[str, ...]] = ("images",)

    def __init__(self, backbone: Backbone, batch_norm: str, filters: int = 64, hidden: int = 8, **embedding: Any) -> None:
        if batch_norm == "inductive":
            raise UserError(
                "model.batch_norm=inductive does not fit RelationNet, which normalises pairs of support and query; "
                "choose running or transductive"
            )
        with torch.no_grad():
            channels, *positions = backbone.maps(torch.zeros(1, *backbone.input_shape)).shape[1:]
        relation = Relation(channels, (positions[0], positions[1]), filters, hidden)
        super().__init__(backbone, batch_norm, parts={"relation": relation}, **embedding)

    def features(self, images: Tensor) -> Tensor:
        maps = self._backbone.maps(images)
        return maps.to(torch.promote_types(maps.dtype, torch.float32))

    def fit_head(self, support: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        return (torch.einsum("tsn,tschw->tnchw", one_hot(labels, support), support),)

    def apply_head(self, head: tuple[Tensor, ...], query: Tensor) -> Tensor:
        (classes,) = head
        ways, queries = classes.shape[1], query.shape[1]
        of_class = classes.unsqueeze(1).expand(-1, queries, *classes.shape[1:])
        of_query = query.unsqueeze(2).expand(-1, -1, ways, *query.shape[2:])
        pairs = torch.cat([of_class, of_query], dim=3)
        scores: Tensor = self.network["relation"](pairs.flatten(0, 2))  # type: ignore[index]
        return scores.view(-1, queries, ways)

    def query_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - F.one_hot(targets, outputs.shape[-1])).square().mean(dim=-1)


class Relation(nn.Module):
    """Two blocks of 3x3 convolution, batch normalisation, ReLU and 2x2 max-pooling, then two linear layers (figure 2).

    Convolutions keep the border, and a block pools where there are 2x2 positions left: the published module, made for maps of
    19x19 and 5x5 positions, fits whatever maps there are.

    Args:
        channels, positions: of the maps to be compared.
        filters, hidden: of its layers.
    """

    def __init__(self, channels: int, positions: tuple[int, int], filters: int, hidden: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (2 * channels, filters):
            layers += [Conv2d(inputs, filters, kernel_size=3, padding=1), BatchNorm(filters), nn.ReLU()]
            if min(positions) >= 2:
                layers.append(MaxPool())
                positions = (positions[0] // 2, positions[1] // 2)
        flat = filters * positions[0] * positions[1]
        self.layers = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(flat, hidden), nn.ReLU(), nn.Linear(hidden, 1), nn.Sigmoid()
        )

    def forward(self, pairs: Tensor) -> Tensor:
        """Scores ``(P, 1)`` of pairs ``(P, 2*C, h, w)``."""
        scores: Tensor = self.layers(pairs)
        return scores
