"""Networks that were trained elsewhere: what brings a dataset's images to what they know, and which of their weights learn."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fewshot.backbones.backbone import Backbone
from fewshot.errors import UserError, check_int

INTERPOLATIONS = ("bilinear", "bicubic")


@dataclass(frozen=True)
class Preprocessing:
    """What a network's images went through when it was trained.

    Attributes:
        side: of the square that an image is brought to, pixels; nothing is cut off.
        interpolation: ``bilinear`` or ``bicubic``.
        mean, std: of each of three channels, on the scale 0 to 1, that it was normalised by.
    """

    side: int
    interpolation: str
    mean: Sequence[float]
    std: Sequence[float]


class PretrainedBackbone(Backbone):
    """A network with its preprocessing, frozen or trained in parts; always in evaluation.

    Nothing is forgotten at random and no statistics move. Grey images become three equal channels. Vectors of `out_features`
    numbers pass as they are: features that were computed before, once for each image of a dataset (`fewshot.data.features`).

    Where it is frozen, a CPU computes images one by one: the last bit of a feature does not depend on which others are asked
    for with it.

    Args:
        image_shape: ``(C, H, W)`` with 1 or 3 channels.
        network: from images ``(B, 3, side, side)`` to features.
        origin: of the network, its package, version and name: others have the same weights and compute otherwise.
        called: the network and its weights, in results.
        preprocessing: of the network.
        data_mean, data_std: of each channel, that images come normalised by, which is undone; None: they are from 0 to 1.
        train: which weights the outer loop learns, as patterns of their names in `network`, kept as `trained`. Scales and
            shifts of batch normalisation stay, as their statistics do.

    Shapes:
        ``(B, C, H, W)`` or ``(B, out_features)`` -> ``(B, out_features)``
    """

    mean: Tensor
    std: Tensor
    data_mean: Tensor
    data_std: Tensor

    def __init__(
        self,
        image_shape: Sequence[int],
        network: nn.Module,
        origin: str,
        called: str,
        preprocessing: Preprocessing,
        data_mean: Sequence[float] | None = None,
        data_std: Sequence[float] | None = None,
        train: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.input_shape = self.require_images(image_shape)
        if image_shape[0] not in (1, 3):
            raise UserError(f"data.image_shape={list(image_shape)} has neither 1 nor 3 channels, as pretrained networks need")
        check_int("model.backbone.side", preprocessing.side, least=32)
        if preprocessing.interpolation not in INTERPOLATIONS:
            raise UserError(
                f"model.backbone.interpolation={preprocessing.interpolation} is unknown; choose {' or '.join(INTERPOLATIONS)}"
            )
        self.network = network.requires_grad_(False).eval()
        self._origin, self._side, self._interpolation = origin, preprocessing.side, preprocessing.interpolation
        theirs = {"mean": preprocessing.mean, "std": preprocessing.std}
        for name, values in (theirs | {"data_mean": data_mean or [0.0], "data_std": data_std or [1.0]}).items():
            self.register_buffer(name, torch.tensor(list(values)).view(-1, 1, 1), persistent=False)
        self.trained = tuple(train)
        self._learn(self.trained)
        self.setting = f"{called}, {self._side} px" + (f", trained: {', '.join(train)}" if train else "")
        try:
            with torch.no_grad():
                self.out_features = self.computed(torch.zeros(1, *image_shape)).shape[1]
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(
                f"model.backbone.side={preprocessing.side}: {origin} takes no images of that size ({reason}); choose the one "
                "that it was made for"
            ) from error

    def _learn(self, patterns: Sequence[str]) -> None:
        kept = {p for module in self.network.modules() if isinstance(module, _BatchNorm) for p in module.parameters()}
        for pattern in patterns:
            named = [p for name, p in self.network.named_parameters() if fnmatchcase(name, pattern) and p not in kept]
            if not named:
                begin = list(
                    dict.fromkeys(name.partition(".")[0] for name, p in self.network.named_parameters() if p not in kept)
                )
                raise UserError(
                    f"model.backbone.train={list(patterns)}: {pattern} names no weight that can learn; those of this network "
                    f"begin with {', '.join(begin)}, as in [{begin[-1]}*]"
                )
            for parameter in named:
                parameter.requires_grad_()

    @property
    def is_frozen(self) -> bool:
        """Whether features are a fixed function of an image; not where other tensors stand for weights, as in an inner loop."""
        weights: Iterable[Tensor] = self.parameters()
        return all(isinstance(weight, nn.Parameter) and not weight.requires_grad for weight in weights)

    @property
    def sha256(self) -> str:
        """Of the network, its weights and the preprocessing: of all that a feature depends on beside the image."""
        digest = hashlib.sha256(f"{self._origin} {self._side} {self._interpolation}".encode())
        for name, tensor in (*self.network.state_dict().items(), *zip(("scale", "shift"), self._normalisation(), strict=True)):
            digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def train(self, mode: bool = True) -> "PretrainedBackbone":
        """Stays in evaluation."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] == (self.out_features,):
            return x
        # a graph that is exported takes any number of images
        if torch.compiler.is_exporting() or x.device.type != "cpu" or not self.is_frozen:
            return self.computed(x)
        # in one layout, whatever the model's: another takes other kernels, whose last bits differ; contiguous() would leave
        # one grey image as it is
        images = (image.clone(memory_format=torch.contiguous_format) for image in torch.split(x, 1))
        return torch.cat([self.computed(image) for image in images])

    def computed(self, x: Tensor) -> Tensor:
        """Features of images ``(B, C, H, W)`` together."""
        size, bicubic = (self._side, self._side), self._interpolation == "bicubic"
        if x.shape[2:] != size:  # smoothed where pixels are lost; Pillow's bicubic kernel, which networks know, is that one too
            antialias = bicubic or self._side < max(x.shape[2:])
            x = F.interpolate(x, size, mode=self._interpolation, align_corners=False, antialias=antialias)
        scale, shift = self._normalisation()
        features: Tensor = self.network(x * scale + shift)
        return features.flatten(1)

    def _normalisation(self) -> tuple[Tensor, Tensor]:
        """What a channel is multiplied by, and what is added then: the data's own is undone, the network's is done."""
        return self.data_std / self.std, (self.data_mean - self.mean) / self.std
