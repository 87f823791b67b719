"""Heads on features that nothing trains: a task's support set fits them, and no outer step is taken.

Tian, Wang, Krishnan, Tenenbaum, Isola (2020), "Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need?"
"""

from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot.backbones.backbone import Backbone
from fewshot.backbones.pretrained_backbone import PretrainedBackbone
from fewshot.errors import UserError
from fewshot.models.embedding import EmbeddingLearner


class FeatureHead(EmbeddingLearner):
    """The backbone is frozen: one that others trained (``model/backbone=timm``), or that a run did (``init_from``).

    Heads are fitted in double precision, where the device has it.

    Args:
        backbone: from inputs to features.
        normalise: give features length 1.
        embedding: what all models of this kind take (`EmbeddingLearner`).

    Raises:
        UserError: the backbone's config asks for training.
    """

    def __init__(self, backbone: Backbone, normalise: bool, **embedding: Any) -> None:
        if isinstance(backbone, PretrainedBackbone) and backbone.trained:
            raise UserError(
                f"model.backbone.train={list(backbone.trained)}, but this model fits a head alone and takes no outer step; set "
                "model.backbone.train=[], or choose a model that learns, as model=protonet"
            )
        super().__init__(backbone, **embedding)
        self.network.requires_grad_(False)
        self._normalise = normalise

    @abstractmethod
    def fit(self, support: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """What `EmbeddingLearner.fit_head` returns, from features as the head sees them."""

    @abstractmethod
    def outputs(self, head: tuple[Tensor, ...], query: Tensor) -> Tensor:
        """What `EmbeddingLearner.apply_head` returns, likewise."""

    def fit_head(self, support: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        return self.fit(self._seen(support), labels)

    def apply_head(self, head: tuple[Tensor, ...], query: Tensor) -> Tensor:
        return self.outputs(head, self._seen(query)).to(query.dtype)

    def _seen(self, features: Tensor) -> Tensor:
        features = features if features.device.type == "mps" else features.double()
        return F.normalize(features, dim=-1) if self._normalise else features

    @property
    def description(self) -> dict[str, Any]:
        return {**super().description, "adapt": ["head"], "normalise": self._normalise}


def in_span(support: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features in the coordinates of the space that a support set spans: all that a penalised head sees of them.

    Args:
        support: features ``(T, S, D)``

    Returns:
        their mean ``(T, 1, D)``, an orthonormal basis ``(T, D, R)`` of the rest with R the lesser of S and D, and the rest in
        its coordinates ``(T, S, R)``.
    """
    mean = support.mean(dim=1, keepdim=True)
    basis = torch.linalg.qr((support - mean).mT).Q
    return mean, basis, (support - mean) @ basis
