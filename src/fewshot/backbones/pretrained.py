"""Networks of torchvision with published weights, frozen or trained in parts."""

import pickle
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from fewshot.backbones.pretrained_backbone import Preprocessing, PretrainedBackbone
from fewshot.errors import UserError, suggest

HEADS = ("fc", "classifier", "heads", "head")
"""What torchvision's networks call their last layers."""


class Pretrained(PretrainedBackbone):
    """A network for ImageNet without its classifier.

    Note that ImageNet contains the classes of mini-ImageNet: results on those say nothing of unseen classes.

    Args:
        name: of a network in ``torchvision.models``.
        weights: published ones, as ``IMAGENET1K_V1`` or ``DEFAULT``: downloaded once, their checksum compared, read as plain
            tensors; None draws random ones.
        side: images are enlarged to, pixels.
        load: whether the weights are read; False where a checkpoint brings them.
        images: image_shape, data_mean, data_std, train (`PretrainedBackbone`).
    """

    def __init__(self, name: str, weights: str | None, side: int, load: bool = True, **images: Any) -> None:
        published = _published(name, weights or "DEFAULT")
        network = _without_head(name, published if weights is not None and load else None)
        known = published.transforms()
        preprocessing = Preprocessing(side, "bilinear", known.mean, known.std)
        origin = f"torchvision {version('torchvision')} {name}"
        called = name if weights is None else f"{name} {published.name}"
        super().__init__(network=network, origin=origin, called=called, preprocessing=preprocessing, **images)
        self.pretrained_on = None if weights is None else "ImageNet"


def _published(name: str, weights: str) -> Any:
    """What torchvision says of a network's weights.

    Raises:
        UserError: there is no such network, or no such weights.
    """
    from torchvision import models

    if name not in models.list_models(module=models):
        raise UserError(f"model.backbone.name={name} is unknown{suggest(name, models.list_models(module=models))}")
    choices = models.get_model_weights(name)
    if weights not in choices.__members__:
        raise UserError(f"model.backbone.weights={weights} is unknown for {name}{suggest(weights, choices.__members__)}")
    return choices[weights]


def _without_head(name: str, published: Any) -> nn.Module:
    """The network with an identity in place of its last layers.

    Args:
        published: weights; None leaves random ones.

    Raises:
        UserError: the weights cannot be had.
    """
    from torchvision import models

    network: nn.Module = models.get_model(name, weights=None)
    if hasattr(network, "transform_input"):  # GoogLeNet and Inception, whose weights are of images from -1 to 1
        setattr(network, "transform_input", True)  # noqa: B010  of a kind that mypy knows nothing of
    if published is not None:
        network.load_state_dict(_downloaded(published))
    for head in HEADS:
        if hasattr(network, head):
            setattr(network, head, nn.Identity())
            return network
    raise UserError(f"model.backbone.name={name} has no classifier that could be left out; choose a ResNet or the like")


def _downloaded(published: Any) -> dict[str, Any]:
    try:
        state: dict[str, Any] = published.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{published.url} cannot be had ({type(error).__name__}); put the file into {torch.hub.get_dir()}/checkpoints"
        ) from error
    return state
