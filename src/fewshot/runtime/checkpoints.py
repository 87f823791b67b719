"""Checkpoints that a crash cannot break and that run no code when they are read."""

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
