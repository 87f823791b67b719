"""Networks of timm, PyTorch Image Models (Wightman 2019), with the preprocessing that each was trained with."""

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fewshot.backbones.pretrained_backbone import INTERPOLATIONS, Preprocessing, PretrainedBackbone
from fewshot.errors import UserError, suggest

log = logging.getLogger(__name__)

_said: set[Path] = set()
"""Files of which it was said that their weights were taken in order: a run builds its network several times."""
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
"""Of files with weights."""


class Timm(PretrainedBackbone):
    """Any network of timm without its classifier. Size, mean, deviation and interpolation of images are the network's own.

    Args:
        name: of the network, with a tag for one of several published weights, as ``vit_small_patch16_224.dino``.
        weights: ``DEFAULT`` are published ones, downloaded once; or a file of tensors (``.safetensors``, or ``.pth``, which is
            read as plain data); None draws random ones.
        side: images are brought to, pixels; None takes the network's own.
        interpolation: ``bilinear`` or ``bicubic``; None takes the network's own.
        image_shape, data_mean, data_std, train: those of `PretrainedBackbone`.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        name: str,
        weights: str | None,
        side: int | None = None,
        interpolation: str | None = None,
        data_mean: Sequence[float] | None = None,
        data_std: Sequence[float] | None = None,
        train: Sequence[str] = (),
    ) -> None:
        known = _configuration(name)
        own = known.interpolation if known.interpolation in INTERPOLATIONS else "bicubic"
        preprocessing = Preprocessing(side or known.input_size[-1], interpolation or own, known.mean, known.std)
        network = _network(name, weights, side if known.fixed_input_size else None)
        super().__init__(image_shape, network, preprocessing, data_mean, data_std, train)
        self.pretrained_on = None if weights is None else "ImageNet"  # by itself, or in what it was gathered from
        for buffer in ("scale", "shift"):  # kept in checkpoints, whatever a later timm says of the name
            self.register_buffer(buffer, self.get_buffer(buffer))


def _configuration(name: str) -> Any:
    """What timm says of a network's images.

    Raises:
        UserError: timm is not installed, or has no such network.
    """
    if find_spec("timm") is None:
        raise UserError("model/backbone=timm needs a package that is not installed; make extras, or pip install timm")
    import timm

    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise UserError(f"model.backbone.name={name} is unknown{_near(architecture, timm.list_models())}")
    tags = [one.partition(".")[2] for one in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise UserError(f"model.backbone.name={name} has no weights of that tag{suggest(tag, tags)}")
    return timm.get_pretrained_cfg(name, allow_unregistered=True)


def _near(word: str, names: Sequence[str]) -> str:
    """`suggest` without the list of a thousand names."""
    hint = suggest(word, names)
    return hint if len(hint) < 100 else "; python -c 'import timm; print(timm.list_models())' lists them"


def _network(name: str, weights: str | None, side: int | None) -> nn.Module:
    """The network without its classifier.

    Args:
        side: that it is built for, where it takes images of one size alone; None builds it for its own.

    Raises:
        UserError: its weights cannot be had or read, or are another network's.
    """
    import timm

    file = Path(weights).expanduser() if weights is not None and Path(weights).suffix in SUFFIXES else None
    if weights not in (None, "DEFAULT") and file is None:
        raise UserError(
            f"model.backbone.weights={weights} is neither DEFAULT, null nor a file ({', '.join(SUFFIXES)}); a tag goes with "
            f"the name, as in model.backbone.name={name.partition('.')[0]}.{weights}"
        )
    built: dict[str, Any] = {} if side is None else {"img_size": side}
    try:
        network: nn.Module = timm.create_model(name, pretrained=weights == "DEFAULT", num_classes=0, **built)
    except Exception as error:  # of the hub, its cache, or the network's builder
        raise UserError(
            f"model.backbone.name={name} cannot be had with its published weights ({type(error).__name__}); download the file "
            "elsewhere and set model.backbone.weights=FILE"
        ) from error
    if file is not None:
        _load(network, file)
    return network


def _load(network: nn.Module, file: Path) -> None:
    """Gives a network the weights of a file, by their names; or in their order, where names differ and all shapes agree.

    Code bases that ported a network call its layers otherwise and keep their order.
    """
    from timm.models import load_state_dict

    logging.getLogger("timm").setLevel(logging.WARNING)  # it names each file that it opens
    try:
        state: dict[str, Tensor] = load_state_dict(str(file), device="cpu", weights_only=True)
        shapes = [tuple(value.shape) for value in state.values()]
    except Exception as error:  # a broken or hostile file raises whatever it likes
        raise UserError(f"model.backbone.weights={file} is no whole file of tensors ({type(error).__name__})") from error
    own = network.state_dict()
    if own.keys() <= state.keys() and all(own[name].shape == state[name].shape for name in own):
        network.load_state_dict({name: state[name] for name in own})
        return
    expected = [tuple(value.shape) for value in own.values()]
    if shapes[: len(own)] != expected or len(shapes) > len(own) + 2:  # a classifier's weight and bias come last
        pairs = zip(own, expected, [*state, *[None] * len(own)], [*shapes, *[None] * len(own)], strict=False)
        first = next((f"{name} {list(a)} but the file {other} {b and list(b)}" for name, a, other, b in pairs if a != b), "")
        raise UserError(f"model.backbone.weights={file} is of another network: this one has {first or 'fewer weights'}")
    network.load_state_dict(dict(zip(own, state.values(), strict=False)))
    if file not in _said:
        _said.add(file)
        log.info(
            f"{file.name}: weights have other names than in timm, and were taken in their order, in which all shapes agree"
        )
