"""Builds the objects that a run's config names. The config of a run is not trusted: it names classes of this project, no code.

Hydra's ``instantiate`` calls whatever can be imported; a folder from somebody else could have it call anything.
"""

import inspect
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any

from fewshot.errors import UserError

OURS = ("fewshot.backbones", "fewshot.data", "fewshot.inner", "fewshot.models", "fewshot.objectives")
HYDRA = ("_target_", "_partial_", "_convert_")
"""Keys that are Hydra's."""
TORCH = ("torch.nn", "torch.optim")


def build(node: Any, trust: Sequence[str] = ()) -> Any:
    """What a part of a resolved config describes, from the innermost ``_target_`` outwards.

    Args:
        node: plain containers.
        trust: packages beside this project's whose classes may be built.

    Raises:
        UserError: a ``_target_`` is of another package, is no class, or refuses its arguments.
    """
    if isinstance(node, list):
        return [build(item, trust) for item in node]
    if not isinstance(node, dict):
        return node
    arguments = {str(key): build(value, trust) for key, value in node.items() if key not in HYDRA}
    if "_target_" not in node:
        return arguments
    target = str(node["_target_"])
    kind = class_of(target, trust)
    if node.get("_partial_"):
        return partial(kind, **arguments)
    try:
        return kind(**arguments)
    except TypeError as error:
        raise UserError(f"the run's config: _target_={target} refuses its arguments ({error}); the run is of another version "
                        "of fewshot: use that one") from error  # fmt: skip


def class_of(target: str, trust: Sequence[str]) -> Any:
    """The class that a ``_target_`` names.

    Raises:
        UserError: it is of another package, or is no class.
    """
    module_name, _, name = target.rpartition(".")
    if not _within(module_name, (*OURS, *TORCH, *trust)):
        package = target.partition(".")[0]
        raise UserError(
            f"the run's config names _target_={target}, which is no part of fewshot; where you trust it, pass trust=[{package}]"
        )
    try:
        found: Any = getattr(import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"the run's config: _target_={target} cannot be imported ({error}); the run is of another version of fewshot, or "
            "its package is not installed"
        ) from error
    # A module may have names of others: what is defined elsewhere is not what was allowed.
    ours = inspect.isclass(found) and _within(found.__module__, (*OURS, "torch"))
    if not ours and not (callable(found) and _within(found.__module__, trust)):
        raise UserError(f"the run's config: _target_={target} is no class of its package; choose another run")
    return found


def leave_files(model: Any) -> None:
    """Has the networks of a config's model read nothing from files, nor download it: a checkpoint has their weights."""
    backbone = model.get("backbone") or {}
    while backbone:  # and what it wraps
        if {"weights", "vectors"} & set(backbone) and str(backbone.get("_target_")).startswith("fewshot."):
            backbone["load"] = False
        backbone = backbone.get("backbone") or {}


def _within(module: str, packages: Sequence[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
