"""Starting from the weights of another run: to fine-tune on another dataset, or to give another algorithm its backbone."""

import hashlib
import logging
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback
from torch import Tensor

from fewshot.errors import UserError
from fewshot.models.base import MetaLearner
from fewshot.runtime.checkpoints import BEST, LAST, read_checkpoint
from fewshot.runtime.distributed import rank

log = logging.getLogger(__name__)

BACKBONE = "network.features."
"""What names of a backbone's weights begin with in a checkpoint, whatever the algorithm."""
NAMED = 3
"""Layers that a message names, at the most."""


class InitialWeights(Callback):
    """Reads the weights that a run starts with, and keeps in each of the run's checkpoints where they came from.

    Attributes:
        origin: the checkpoint's path and sha256, and the part that was taken; None where weights are drawn from the seed.
    """

    def __init__(self) -> None:
        self.origin: dict[str, str] | None = None
        self._weights: dict[str, Tensor] = {}

    def read(self, init_from: str) -> dict[str, Any]:
        """The content of the checkpoint that a run's folder or a file name stands for.

        Raises:
            UserError: there is none, or it is broken.
        """
        path = _checkpoint_of(Path(init_from).expanduser())
        content = read_checkpoint(path)
        self._weights = content["state_dict"]
        self.origin = {"checkpoint": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        return content

    def load_into(self, model: MetaLearner, part: str) -> None:
        """Gives a model the weights that were read, if any were.

        Args:
            part: ``all``, or ``backbone`` alone.

        Raises:
            UserError: they are those of another network.
        """
        if self.origin is None:
            return
        start = BACKBONE if part == "backbone" else ""
        here, there = (_starting_with(start, weights) for weights in (model.state_dict(), self._weights))
        different = [
            f"{name} {_shape(there.get(name))} instead of {_shape(here.get(name))}"
            for name in dict.fromkeys([*here, *there])
            if _shape(there.get(name)) != _shape(here.get(name))
        ]
        if different:
            more = f" and {len(different) - NAMED} more" if len(different) > NAMED else ""
            remedy = "the model and ways" if part == "all" else "the model/backbone"
            alone = ", or init_part=backbone to take its backbone alone" if part == "all" else ""
            raise UserError(
                f"init_from={self.origin['checkpoint']} has another network: {', '.join(different[:NAMED])}{more}; "
                f"choose {remedy} that it was trained with{alone}"
            )
        model.load_state_dict(there, strict=part == "all")
        self.origin = {**self.origin, "part": part}
        if rank() == 0:
            log.info(f"Starting from {'the backbone' if part == 'backbone' else 'all weights'} of {self.origin['checkpoint']}")

    def state_dict(self) -> dict[str, Any]:
        return dict(self.origin or {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.origin = dict(state_dict)


def _checkpoint_of(place: Path) -> Path:
    if place.is_file():
        return place
    for name in (BEST, LAST):
        if (path := place / "checkpoints" / name).is_file():
            return path
    raise UserError(f"init_from={place} is no checkpoint and no run's folder with one; choose one below logs/train/runs")


def _starting_with(start: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: values for name, values in weights.items() if name.startswith(start)}


def _shape(weights: Tensor | None) -> str:
    return "(missing)" if weights is None else str(list(weights.shape))
