"""Images that stay on the device: a meta-batch is then one gather there, and only the numbers of images travel."""

import logging

import torch
from torch import Tensor

from fewshot.data.prepared import PreparedSplit
from fewshot.errors import UserError
from fewshot.tasks.batch import TaskBatch

log = logging.getLogger(__name__)

SHARE = 4
"""``auto`` gives a split's images at most this part, a fourth, of the memory that a GPU has free."""


class ResidentImages:
    """Keeps the images of splits on a device.

    Args:
        choice: ``true``, ``false``, or ``auto``: on a GPU, where there is ample room.

    Raises:
        UserError: `choice` is something else.
    """

    def __init__(self, choice: bool | str) -> None:
        if choice not in (True, False, "auto"):
            raise UserError(f"data.device_resident={choice} is unknown; choose true, false or auto")
        self._choice = choice
        self._images: dict[str, Tensor] = {}

    def hold(self, name: str, split: PreparedSplit, device: torch.device) -> bool:
        """Brings a split's images to the device, if they are to be there.

        Returns:
            whether they are there now.
        """
        if not self._choice or (self._choice == "auto" and not _has_room(split.images.nbytes, device)):
            return False
        if name not in self._images or self._images[name].device != device:
            self._images[name] = torch.tensor(split.images, device=device)
            log.info(f"Images of the {name} split stay on {device}: {split.images.nbytes / 2**20:.0f} MiB")
        return True

    def fill_in(self, name: str, batch: TaskBatch) -> TaskBatch:
        """Tasks that are on the device, with their images, where these are held here; else as they are."""
        images = self._images.get(name)
        return batch if images is None else batch.with_inputs(images[batch.support_id], images[batch.query_id])

    def release(self) -> None:
        """Gives the memory back."""
        self._images.clear()


def _has_room(size: int, device: torch.device) -> bool:
    return device.type == "cuda" and size * SHARE <= torch.cuda.mem_get_info(device)[0]
