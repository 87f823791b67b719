"""Checkpoints that a crash cannot break and that run no code when they are read."""

import math
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from fewshot.errors import UserError
from fewshot.files import written_whole

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
PARTS = {"state_dict", "optimizer_states", "lr_schedulers", "callbacks", "global_step"}
"""What continuing a run needs, of what Lightning writes."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes aside, syncs, renames; reads tensors and plain containers only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(target) as file:
            torch.save(checkpoint, file)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        return read_checkpoint(Path(path), map_location)


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """A checkpoint's content.

    Raises:
        UserError: it is missing, truncated, or holds anything but tensors and plain containers.
    """
    try:
        content: Any = torch.load(path, map_location=map_location, weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; choose a folder whose run has validated at least once") from error
    except Exception as error:  # a broken or hostile file raises whatever it likes
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path} is no whole checkpoint of plain data ({reason}); use another checkpoint") from error
    if not isinstance(content, dict) or not content.keys() >= PARTS:
        raise UserError(f"{path} is no checkpoint of a training run; choose one that train.py wrote")
    return content


def top_checkpoints(run: Path, count: int, monitor: str, mode: str) -> list[dict[str, Any]]:
    """The content of the checkpoints of a run that validated best, the best first; of equals, the earliest; NaN comes last.

    Args:
        run: its folder.
        count: how many.
        monitor: the score that decides.
        mode: ``max`` or ``min``.

    Raises:
        UserError: the run has kept fewer.
    """
    found = [read_checkpoint(path) for path in (run / "checkpoints/top").glob("*.ckpt")]
    if len(found) < count:
        fewer = f"choose at most {len(found)}, or " if found else ""
        raise UserError(
            f"ensemble={count} but {run} has kept {len(found)} checkpoints for it: {fewer}train with "
            f"callbacks=ensemble callbacks.top.save_top_k={count}"
        )
    sign = -1 if mode == "max" else 1

    def rank(content: dict[str, Any]) -> tuple[bool, float, int]:
        figure = sign * content["fewshot"]["val_metrics"][f"val/{monitor}"]
        return math.isnan(figure), figure, content["global_step"]

    return sorted(found, key=rank)[:count]
