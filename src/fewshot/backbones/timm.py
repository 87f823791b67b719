"""Networks of timm, PyTorch Image Models (Wightman 2019), with the preprocessing that each was trained with."""

import logging
import re
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fewshot.backbones.pretrained_backbone import INTERPOLATIONS, Preprocessing, PretrainedBackbone
from fewshot.errors import UserError, suggest

log = logging.getLogger(__name__)

_logged: set[Path] = set()
"""Files whose weights were taken in their order, which is logged once: a run builds its network several times."""
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
"""Of files with weights."""
KINDS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
"""Of tensors, which may have one shape in a layer."""
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names that weights have on the Hugging Face hub."""
SECONDS = 10
"""That the hub may take to answer whether it has a network."""
LONGEST_REASON = 160
"""Letters of what timm says of an error."""


class Timm(PretrainedBackbone):
    """Any network of timm without its classifier. Size, mean, deviation and interpolation of images are the network's own.

    Args:
        name: of the network, with a tag for one of several published weights, as ``vit_small_patch16_224.dino``.
        weights: ``DEFAULT`` are published ones, downloaded once; or a file of tensors (``.safetensors``, or ``.pth``, which is
            read as plain data); None draws random ones.
        side: images are brought to, pixels; None takes the network's own.
        interpolation: ``bilinear`` or ``bicubic``; None takes the network's own.
        load: whether the weights are read; False where a checkpoint brings them.
        images: image_shape, data_mean, data_std, train (`PretrainedBackbone`).
    """

    def __init__(
        self,
        name: str,
        weights: str | None,
        side: int | None = None,
        interpolation: str | None = None,
        load: bool = True,
        **images: Any,
    ) -> None:
        known = _configuration(name)
        own = known.interpolation if known.interpolation in INTERPOLATIONS else "bicubic"
        preprocessing = Preprocessing(side or known.input_size[-1], interpolation or own, known.mean, known.std)
        network = _network(name, weights if load else None, side if known.fixed_input_size else None)
        _require_whole_patches(network, preprocessing.side)
        origin, called = f"timm {version('timm')} {name}", _called(name, weights, known.tag)
        super().__init__(network=network, origin=origin, called=called, preprocessing=preprocessing, **images)
        self.pretrained_on = None if weights is None else "ImageNet"  # by itself, or in what it was gathered from
        for buffer in ("mean", "std"):  # kept in checkpoints, whatever a later timm says of the name
            self.register_buffer(buffer, self.get_buffer(buffer))


def _configuration(name: str) -> Any:
    """What timm says of a network's images.

    Raises:
        UserError: timm is not installed, or has no such network.
    """
    if find_spec("timm") is None:
        raise UserError("model/backbone=timm needs a package that is not installed; make extras, or pip install timm")
    import timm
    from timm.models import PretrainedCfg

    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise UserError(f"model.backbone.name={name} is unknown{_near(architecture, timm.list_models())}")
    tags = [one.partition(".")[2] for one in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise UserError(f"model.backbone.name={name} has no weights of that tag{suggest(tag, tags)}")
    return timm.get_pretrained_cfg(name) or PretrainedCfg()  # timm's own choice for a network of which nothing is said


def _called(name: str, weights: str | None, tag: str | None) -> str:
    """A network and its weights: those of a tag, also where timm chooses it; of a file; none that were published."""
    if weights == "DEFAULT":
        return f"{name}.{tag}" if tag and "." not in name else name
    return name.partition(".")[0] + (f" {Path(weights).name}" if weights else "")


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

    file = Path(str(weights)).expanduser()
    published, from_file = weights == "DEFAULT", file.suffix in SUFFIXES
    if weights is not None and not published and not from_file:
        is_tag = "/" not in str(weights) and not file.exists()
        tag = f"; a tag goes with the name, as in model.backbone.name={name.partition('.')[0]}.{weights}" if is_tag else ""
        raise UserError(f"model.backbone.weights={weights} is neither DEFAULT, null nor a file ({', '.join(SUFFIXES)}){tag}")
    built: dict[str, Any] = {} if side is None else {"img_size": side}
    try:
        if published:
            built |= _published(name)
        network: nn.Module = timm.create_model(name, pretrained=published, num_classes=0, **built)
    except Exception as error:  # of the hub, its cache, or the network's builder
        what = " with its published weights" if published else ""
        remedy = "download the file elsewhere and set model.backbone.weights=FILE" if published else "choose another network"
        asked = "" if side is None else f" for side={side}"
        reason = next(iter(str(error).splitlines()), "")[:LONGEST_REASON]
        raise UserError(
            f"model.backbone.name={name} cannot be had{what}{asked} ({type(error).__name__}: {reason}); {remedy}"
        ) from error
    if from_file:
        _load(network, file)
    return network


def _published(name: str) -> dict[str, Any]:
    """Where timm finds published weights that were downloaded before; the hub answers for others, or raises within seconds.

    timm by itself asks the hub for what it has, and again for a minute where there is no network.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    known = _configuration(name)
    if known.hf_hub_id is None:
        return {}
    for file in (known.hf_hub_filename,) if known.hf_hub_filename else HUB_FILES:
        cached = try_to_load_from_cache(known.hf_hub_id, file)
        if isinstance(cached, str):
            return {"pretrained_cfg_overlay": {"file": cached}}
    HfApi().model_info(known.hf_hub_id, timeout=SECONDS)
    return {}


def _require_whole_patches(network: nn.Module, side: int) -> None:
    """Refuses a size of which a transformer would leave out the pixels of the last row and column of patches."""
    from timm.layers.patch_embed import PatchEmbed

    patches = getattr(network, "patch_embed", None)
    if isinstance(patches, PatchEmbed) and not patches.dynamic_img_pad and side % patches.patch_size[0]:
        patch = patches.patch_size[0]
        raise UserError(
            f"model.backbone.side={side} is no multiple of the network's patches of {patch} pixels; choose "
            f"{max(1, round(side / patch)) * patch}"
        )


def _load(network: nn.Module, file: Path) -> None:
    """Gives a network the weights of a file, by their names; or in their order, where names differ and all shapes agree.

    Code bases that ported a network call its layers otherwise and keep their order.

    Raises:
        UserError: the file is missing or broken, or another network's.
    """
    from timm.models import load_state_dict

    if not file.is_file():
        raise UserError(f"model.backbone.weights={file} is missing; put it there, or set another, DEFAULT or null")
    logging.getLogger("timm").setLevel(logging.WARNING)  # it names each file that it opens
    try:
        state: dict[str, Tensor] = load_state_dict(str(file), device="cpu", weights_only=True)
        there = {name: tuple(value.shape) for name, value in state.items()}
    except Exception as error:  # a broken or hostile file raises whatever it likes
        code = "; objects and code are not read: save its state_dict" if "weights_only" in str(error) else ""
        raise UserError(f"model.backbone.weights={file} is no whole file of tensors ({type(error).__name__}){code}") from error
    if broken := next((name for name, value in state.items() if not value.isfinite().all()), None):
        raise UserError(f"model.backbone.weights={file}: {broken} has numbers that are not finite; take another file")
    own = network.state_dict()
    here = {name: tuple(value.shape) for name, value in own.items()}
    other = next((name for name in here if there.get(name) != here[name]), None)
    if other is None:
        blocks = {_without_numbers(name) for name in here}
        deeper = next((name for name in there if name not in here and _without_numbers(name) in blocks), None)
        if deeper is not None:
            raise UserError(f"model.backbone.weights={file} is of another network: it has {deeper}, which this one has not")
        network.load_state_dict({name: state[name] for name in own})
        return
    # safetensors sorts names. A classifier's weight and bias come last.
    if file.suffix == ".safetensors" or not 0 <= len(there) - len(here) <= 2 or _kinds(here) != _kinds(there)[: len(here)]:
        found = f"as {list(there[other])}" if other in there else "under no such name, nor all in the same order"
        raise UserError(
            f"model.backbone.weights={file} is of another network: this one has {other} {list(here[other])}, the file {found}"
        )
    network.load_state_dict(dict(zip(own, state.values(), strict=False)))
    if file not in _logged:
        _logged.add(file)
        log.info(
            f"{file.name}: weights have other names than in timm, and were taken in their order, in which all shapes agree"
        )


def _without_numbers(name: str) -> str:
    """The name of a weight, alike in all blocks of a kind."""
    return re.sub(r"\d+", "#", name)


def _kinds(shapes: dict[str, tuple[int, ...]]) -> list[tuple[str | None, tuple[int, ...]]]:
    """What each tensor is in its layer, where that has a usual name, and its shape."""
    last = ((name.rpartition(".")[2], shape) for name, shape in shapes.items())
    return [(kind if kind in KINDS else None, shape) for kind, shape in last]
