"""Networks of torchvision with published weights, frozen or trained in parts."""

import pickle
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from fewshot.backbones.pretrained_backbone import Preprocessing, PretrainedBackbone
from fewshot.errors import UserError, suggest

HEADS = ("fc", "classifier", "heads", "head")
"""What torchvision's networks call their last layers."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of each channel that they were trained with, on the scale 0 to 1."""


class Pretrained(PretrainedBackbone):
    """A network for ImageNet without its classifier.

    Note that ImageNet contains the classes of mini-ImageNet: results on those say nothing of unseen classes.

    Args:
        name: of a network in ``torchvision.models``.
        weights: published ones, as ``IMAGENET1K_V1`` or ``DEFAULT``: downloaded once, their checksum compared, read as plain
            tensors; None draws random ones.
        side: images are enlarged to, pixels.
        image_shape, data_mean, data_std, train: those of `PretrainedBackbone`.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        name: str,
        weights: str | None,
        side: int,
        data_mean: Sequence[float] | None = None,
        data_std: Sequence[float] | None = None,
        train: Sequence[str] = (),
    ) -> None:
        preprocessing = Preprocessing(side, "bilinear", *IMAGENET)
        super().__init__(image_shape, _without_head(name, weights), preprocessing, data_mean, data_std, train)
        self.pretrained_on = None if weights is None else "ImageNet"


def _without_head(name: str, weights: str | None) -> nn.Module:
    """The network with an identity in place of its last layers.

    Raises:
        UserError: there is no such network or no such weights, or they cannot be had.
    """
    from torchvision import models

    if name not in models.list_models(module=models):
        raise UserError(f"model.backbone.name={name} is unknown{suggest(name, models.list_models(module=models))}")
    network: nn.Module = models.get_model(name, weights=None)
    if weights is not None:
        network.load_state_dict(_published(name, weights))
    for head in HEADS:
        if hasattr(network, head):
            setattr(network, head, nn.Identity())
            return network
    raise UserError(f"model.backbone.name={name} has no classifier that could be left out; choose a ResNet or the like")


def _published(name: str, weights: str) -> dict[str, Any]:
    from torchvision import models

    choices = models.get_model_weights(name)
    if weights != "DEFAULT" and weights not in choices.__members__:
        raise UserError(f"model.backbone.weights={weights} is unknown for {name}{suggest(weights, choices.__members__)}")
    chosen = choices[weights]
    try:
        state: dict[str, Any] = chosen.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{chosen.url} cannot be had ({type(error).__name__}); put the file into {torch.hub.get_dir()}/checkpoints"
        ) from error
    return state
