"""Networks of torchvision with published weights, frozen: features that are computed once an image."""

import hashlib
import pickle
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot.backbones.backbone import Backbone
from fewshot.errors import UserError, check_int, suggest

HEADS = ("fc", "classifier", "heads", "head")
"""What torchvision's networks call their last layers."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of each channel that they were trained with, on the scale 0 to 1."""


class Pretrained(Backbone):
    """A network for ImageNet without its classifier, never trained further: its weights and statistics stay as they are.

    Images come on the scale 0 to 1 (``data.mean`` 0 and ``data.std`` 1), are enlarged, and normalised as the network has
    learned; grey ones become three equal channels. Note that ImageNet contains the classes of mini-ImageNet: results on those
    say nothing of unseen classes.

    Features are kept by the content of the image, so that an image is computed once whatever task it is in. On a CPU
    images are computed one by one: the last bit of a feature does not depend on which others were asked for with it.

    Args:
        image_shape: ``(C, H, W)`` with 1 or 3 channels.
        name: of a network in ``torchvision.models``.
        weights: published ones, as ``IMAGENET1K_V1`` or ``DEFAULT``: downloaded once, their checksum compared, read as plain
            tensors; None draws random ones.
        side: images are enlarged to, pixels.
        cached: images whose features are kept; the oldest are forgotten first.

    Shapes:
        ``(B, C, H, W)`` -> ``(B, out_features)``
    """

    def __init__(self, image_shape: Sequence[int], name: str, weights: str | None, side: int, cached: int) -> None:
        super().__init__()
        check_int("model.backbone.side", side, least=32)
        check_int("model.backbone.cached", cached, least=0)
        self.input_shape = self.require_images(image_shape)
        if image_shape[0] not in (1, 3):
            raise UserError(f"data.image_shape={list(image_shape)} has neither 1 nor 3 channels, as {name} needs")
        self.network = _without_head(name, weights)
        self.network.requires_grad_(False).eval()
        self._side, self._cached = side, cached
        self._known: OrderedDict[bytes, Tensor] = OrderedDict()
        with torch.no_grad():
            self.out_features = self._computed(torch.zeros(1, *image_shape)).shape[1]

    def train(self, mode: bool = True) -> "Pretrained":
        """Stays in evaluation: nothing is forgotten at random, and no statistics move."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        if not self._cached:
            return self._computed(x)
        keys = [hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest() for image in x.detach().float().cpu()]
        rows = {key: row for row, key in enumerate(keys) if key not in self._known}
        found = {key: self._known[key] for key in keys if key in self._known}
        if rows:
            new = self._computed(x[list(rows.values())]).float()
            found |= dict(zip(rows, new, strict=True))
        self._known |= found
        while len(self._known) > self._cached:
            self._known.popitem(last=False)
        return torch.stack([found[key].to(x.device) for key in keys])

    def _computed(self, x: Tensor) -> Tensor:
        mean, std = (torch.tensor(values, dtype=x.dtype, device=x.device).view(3, 1, 1) for values in IMAGENET)
        enlarged = F.interpolate(x, (self._side, self._side), mode="bilinear", align_corners=False, antialias=False)
        images = (enlarged.expand(-1, 3, -1, -1) - mean) / std
        parts = torch.split(images, 1 if x.device.type == "cpu" else len(images))
        return torch.cat([self.network(part).flatten(1) for part in parts])


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
