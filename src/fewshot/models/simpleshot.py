"""SimpleShot: nearest centroid on features of a classifier, centred and normalised.

Wang, Chao, Weinberger, van der Maaten (2019), "SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot Learning".
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot.backbones.backbone import Backbone
from fewshot.backbones.statistics import move_average
from fewshot.errors import UserError, suggest
from fewshot.models.classifier import Classifier
from fewshot.models.embedding import class_means
from fewshot.models.protonet import squared_distances

TRANSFORMS = ("un", "l2n", "cl2n")


class SimpleShot(Classifier):
    """Outputs are the negative squared distances to the classes' centroids after a transformation of the features.

    The paper takes the mean of the features of all training images once training is done. Here it is a running mean over
    training steps, like batch normalisation's statistics: nothing but the checkpoint is needed to evaluate it.

    Args:
        backbone: from images to features.
        transform: of features: ``un`` leaves them, ``l2n`` gives them length 1, ``cl2n`` subtracts the training images' mean
            before that.
        classifier: what all models of this kind take (`Classifier`).
    """

    centre: Tensor

    def __init__(self, backbone: Backbone, transform: str = "cl2n", **classifier: Any) -> None:
        if transform not in TRANSFORMS:
            raise UserError(f"model.transform={transform} is unknown{suggest(transform, TRANSFORMS)}")
        super().__init__(backbone, **classifier)
        self.register_buffer("centre", torch.zeros(backbone.out_features))
        self._transform = transform

    def fit_head(self, support: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        return (class_means(self._transformed(support), labels),)

    def apply_head(self, head: tuple[Tensor, ...], query: Tensor) -> Tensor:
        return -squared_distances(self._transformed(query), *head)

    def averages(self, features: Tensor) -> tuple[Tensor, ...]:
        return (features.mean(dim=(0, 1)),)

    def move_averages(self, *seen: Tensor) -> None:
        *statistics, centre = seen
        super().move_averages(*statistics)
        move_average(self.centre, centre)

    def _transformed(self, features: Tensor) -> Tensor:
        if self._transform == "un":
            return features
        return F.normalize(features - self.centre if self._transform == "cl2n" else features, dim=-1)

    @property
    def description(self) -> dict[str, Any]:
        return {**super().description, "transform": self._transform}
