"""What every backbone offers to the models that put a head on it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fewshot.errors import UserError


class Backbone(nn.Module):
    """A network from inputs to features, ``(B, *input_shape)`` -> ``(B, out_features)``.

    Attributes:
        input_shape: of one input, as ``(C, H, W)``.
        out_features: number of features of an input.
        ids: inputs are whole numbers below this; None where they are real numbers.
        column: of the data, whose values a frozen network takes in place of a row's inputs: the sentences themselves. None of
            others.
        pretrained_on: what its weights have learned from before a run; None where they are drawn at random.
        setting: what else of it a figure depends on, as the name of a published network and its weights; empty of others.
    """

    input_shape: tuple[int, ...]
    out_features: int
    ids: int | None = None
    column: str | None = None
    pretrained_on: str | None = None
    setting: str = ""

    @property
    def title(self) -> str:
        """What results call it, as ``Conv4`` or ``Timm resnet18.a1_in1k``."""
        return f"{type(self).__name__} {self.setting}".rstrip()

    def __call__(self, x: Tensor | Sequence[str]) -> Tensor:  # the latter where `column` is given
        features: Tensor = super().__call__(x)
        return features

    def maps(self, x: Tensor) -> Tensor:
        """What is pooled or flattened into features: ``(B, *input_shape)`` -> ``(B, channels, h, w)``.

        Raises:
            UserError: the network has none.
        """
        raise UserError(f"model.backbone: {type(self).__name__} has no feature maps; choose a convolutional network")

    def require_images(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of one input, if that is an image's.

        Raises:
            UserError: it is not.
        """
        if len(shape) != 3:
            raise UserError(
                f"model.backbone: {type(self).__name__} takes images (C, H, W), but data.image_shape={list(shape)}; choose the "
                "model/backbone that the data's experiments have"
            )
        return tuple(shape)

    def require_ids(self, shape: Sequence[int], ids: int | None, takes: str, data: str) -> int:
        """How many ids the inputs are made of, if they are rows of ids.

        Args:
            shape: of one input.
            ids: that there are; None of data of another kind.
            takes: what the network takes, as in ``sentences``.
            data: a choice of the group ``data`` that is so.

        Raises:
            UserError: they are not.
        """
        if ids is None or len(shape) != 1:
            raise UserError(
                f"model.backbone: {type(self).__name__} takes {takes}, but the data, of shape {list(shape)}, are none; choose "
                f"data of {takes}, as data={data}, or another network, as model/backbone=conv4 for images"
            )
        return ids


def ids_of(network: nn.Module) -> int | None:
    """What whole numbers a network's inputs are below; None where they are real numbers."""
    return next((module.ids for module in network.modules() if isinstance(module, Backbone)), None)


def blank_inputs(network: nn.Module, shape: Sequence[int]) -> Tensor:
    """Two inputs of zeros for a network, ``(2, *shape)``, of the device and precision of its weights."""
    like = next(network.parameters(), torch.empty(0))  # a network may have none
    return torch.zeros(2, *shape, device=like.device, dtype=like.dtype if ids_of(network) is None else torch.int64)
