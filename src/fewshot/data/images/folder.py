"""A user's own images: a folder with a folder for each class, or images and a csv file that says what they show."""

import hashlib
import logging
import os
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fewshot.data.images.decode import MODES, channels_first, decode
from fewshot.data.images.folder_listing import Listing, list_images
from fewshot.data.images.image_files import Image
from fewshot.data.images.listed import ListedImages
from fewshot.errors import UserError

log = logging.getLogger(__name__)

LOOKED_AT = 50
"""Images whose size is looked at before it is said."""


class Folder(ListedImages):
    """Images in any of these forms; files that are no images are skipped and counted.

    - ``CLASS/*``;
    - ``train/CLASS/*``, ``val/CLASS/*``, ``test/CLASS/*``: a split where each has classes of its own, joined where all have
      the same;
    - images anywhere and one csv file with the columns ``file,class``, perhaps ``split``, and others that tasks can be drawn by
      (``apart: patient``), whatever their order and usual names.

    Args:
        data_dir: holds them, itself or in the only folder in it.
        image_shape: ``(C, H, W)`` that images are brought to: 1 channel for grey, 3 for colour.
        crop: keep the ratio of width to height by cutting off the longer side; else images are stretched.
        csv: file to go by, relative to `data_dir`; None looks for one, False goes by folders.
        file_column, class_column, split_column: headers in it; None looks for them, False takes none.
        classes: that are kept; None keeps all.
        allow_partial: leave out images that the csv file lists and that are not there.
    """

    version = 1
    group = "folder"

    def __init__(
        self,
        data_dir: str,
        image_shape: Sequence[int] = (3, 84, 84),
        crop: bool = True,
        csv: str | bool | None = None,
        file_column: str | None = None,
        class_column: str | None = None,
        split_column: str | bool | None = None,
        classes: Sequence[str] | None = None,
        allow_partial: bool = False,
    ) -> None:
        channels, height, width = image_shape
        if channels not in MODES:
            raise UserError(f"data.image_shape={list(image_shape)} must have 1 channel, grey, or 3, colour")
        self.image_shape = (channels, height, width)
        self._root = Path(data_dir).absolute()
        self.name = "folder-" + re.sub(r"\W+", "_", self._root.name)
        self._crop, self._allow_partial = crop, allow_partial
        self._csv, self._classes = csv, [str(name) for name in classes] if classes is not None else None
        self._columns = {"file": file_column, "class": class_column, "split": split_column}

    @property
    def parts(self) -> tuple[str, ...]:  # type: ignore[override]
        return self._listing.parts

    @property
    def arguments(self) -> dict[str, str]:
        """Also where it is: other folders have its name."""
        return super().arguments | {"data_dir": str(self._root)}

    @property
    def options(self) -> dict[str, str]:
        """Also what each image shows: a renamed folder changes neither name nor time of the images in it."""
        listed = "\n".join(
            f"{os.path.relpath(image.path, self._root)}\t{image.label}\t{image.columns}" for image in self._listing.images
        )
        return super().options | {"listing": hashlib.sha256(listed.encode("utf-8", "surrogatepass")).hexdigest()}

    def files(self, part: str) -> list[Path]:
        return [*self._listing.files, *(image.path for image in self.listed(part))]

    def group_of(self, label: str) -> str:
        return self._root.name

    def pixels(self, data: bytes, origin: str) -> npt.NDArray[np.uint8]:
        channels, height, width = self.image_shape
        return channels_first(decode(data, MODES[channels], (height, width), origin, self._crop))

    def listed(self, part: str) -> list[Image]:
        return [image for image in self._listing.images if part in (image.split, "all")]

    @cached_property
    def _listing(self) -> Listing:
        listing = list_images(self._root, self._csv, self._columns, self._classes, self._allow_partial)
        sizes = list(Counter(image.label for image in listing.images).values())
        log.info(
            f"{self._root}: {len(sizes)} classes, {len(listing.images):,} images, {min(sizes)} to {max(sizes)} of each (median "
            f"{statistics.median(sizes):g}){_range_of_sizes(listing.images)}"
            + (f", listed by {listing.files[0].name}" if listing.files else "")
            + (f"; {listing.skipped} other files skipped" if listing.skipped else "")
            + (f"; {listing.missing} listed images are missing" if listing.missing else "")
        )
        return listing


def _range_of_sizes(images: Sequence[Image]) -> str:
    """Width and height of the smallest and the largest of a few images."""
    from PIL import Image as Pillow

    found = []
    for image in images[:: -(-len(images) // LOOKED_AT)]:
        with suppress(Exception), Pillow.open(image.path) as opened:  # an error is raised where it is decoded
            found.append(opened.size)
    if not found:
        return ""
    low, high = min(found, key=lambda size: size[0] * size[1]), max(found, key=lambda size: size[0] * size[1])
    return f", {low[0]}x{low[1]}" + (f" to {high[0]}x{high[1]}" if high != low else "") + " pixels"
