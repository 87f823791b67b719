"""What a model adds to a checkpoint, by which a checkpoint of another model is refused before its weights are loaded."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from fewshot.errors import UserError

SCHEMA = 1
"""Of the entry ``fewshot``; raised when the meaning of its keys changes."""
KEYS = {"model", "shapes", "skipped_steps", "max_steps", "val_metrics"}
"""Keys that every entry has had."""


def shapes_of(network: nn.Module) -> dict[str, list[int]]:
    """The shape of each parameter, by name."""
    return {name: list(parameter.shape) for name, parameter in network.named_parameters()}


def require_same_model(checkpoint: Mapping[str, Any], model: str, network: nn.Module, state: Mapping[str, Any]) -> None:
    """Refuses a checkpoint of another model or network in one line, where PyTorch would list every tensor that does not fit.

    Args:
        checkpoint: its content.
        model: name of the class that is to be loaded.
        network: of that model.
        state: state dict of that model.

    Raises:
        UserError: the checkpoint is of something else, or broken.
    """
    entry, saved_state = checkpoint.get("fewshot"), checkpoint.get("state_dict")
    if not isinstance(entry, dict) or entry.get("schema") != SCHEMA:
        raise UserError(f"the checkpoint is not one of this project's (schema {SCHEMA}); choose one that train.py wrote")
    if entry.get("model") != model:
        raise UserError(f"the checkpoint is of model {entry.get('model')}, the config asks for {model}")
    here, there = shapes_of(network), entry.get("shapes")
    if not isinstance(there, dict):
        there = {}
    for name in sorted(here.keys() | there.keys(), key=str):
        if here.get(name) != there.get(name):
            raise UserError(
                f"the checkpoint's network has {name} of shape {there.get(name)}, the config's {here.get(name)}; "
                "give the backbone and dataset that the checkpoint was trained with"
            )
    if not entry.keys() >= KEYS or not isinstance(saved_state, dict) or _shapes(saved_state) != _shapes(state):
        raise UserError("the checkpoint does not hold what it lists; use another")


def _shapes(state: Mapping[str, Any]) -> dict[str, list[int] | None]:
    return {name: list(value.shape) if isinstance(value, Tensor) else None for name, value in state.items()}
