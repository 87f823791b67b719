"""Content that stays on the device: a meta-batch is then one gather there, and only the numbers of rows travel."""

import logging

import torch

from fewshot.data.content import Arrays, Content, gather, joined
from fewshot.data.meta_batches import Travelling
from fewshot.errors import UserError
from fewshot.tasks.batch import MetaBatch, TaskBatch

log = logging.getLogger(__name__)

SHARE = 4
"""``auto`` gives a part's content at most this share, a fourth, of the memory that a GPU has free."""


class DeviceCache:
    """Keeps the content of parts on a device.

    Args:
        choice: ``true``, ``false``, or ``auto``: on a GPU, where there is ample room.

    Raises:
        UserError: `choice` is something else.
    """

    def __init__(self, choice: bool | str) -> None:
        if choice not in (True, False, "auto"):
            raise UserError(f"data.device_resident={choice} is unknown; choose true, false or auto")
        self._choice = choice
        self._held: dict[str, Arrays] = {}

    def hold(self, part: str, content: Content, device: torch.device) -> bool:
        """Brings a part's content to the device, if it is to be there.

        Returns:
            whether it is there now.
        """
        size = sum(piece.bytes for piece in content.arrays)
        if not self._choice or (self._choice == "auto" and not _has_room(size, device)):
            return False
        if part not in self._held or self._held[part].x.device != device:
            self._held[part] = joined(content.arrays, device)
            log.info(f"Rows of the {part} split stay on {device}: {size / 2**20:.0f} MiB")
        return True

    def fill_in(self, part: str, tasks: Travelling) -> MetaBatch:
        """Tasks that are on the device, those that came as numbers of rows with their content."""
        return [one if isinstance(one, TaskBatch) else gather([self._held[part]], one) for one in tasks]

    def release(self) -> None:
        """Gives the memory back."""
        self._held.clear()


def _has_room(size: int, device: torch.device) -> bool:
    return device.type == "cuda" and size * SHARE <= torch.cuda.mem_get_info(device)[0]
