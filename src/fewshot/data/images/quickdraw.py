"""Quick, Draw!: sketches of 345 things by people at play (Ha & Eck 2018), as 28x28 grey images."""

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt

from fewshot.data.files.arrays import read_array
from fewshot.data.files.places import Place
from fewshot.data.images.decode import decode, white_on_black
from fewshot.data.published import check_split, part_of_class
from fewshot.data.source import ImageClass, ImageSource
from fewshot.errors import UserError, check_int
from fewshot.npy_file import map_array

FILE = "quickdraw345x100_28x28.npz"
PREFIX = "full_numpy_bitmap_"
"""What is before a category's name where Google's files are fetched one by one."""
BELOW = ("", "full/numpy_bitmap", "numpy_bitmap")
"""Where the files of categories are in Google's bucket, of which gsutil copies the folders too."""
CATEGORIES, DRAWINGS, SIZE = 345, 100, 28
SHARES = {"train": range(207), "val": range(207, 276), "test": range(276, 345)}
"""Three fifths, one fifth and one fifth of the categories in the order of the SHA-256 of their names.

A draw that anyone can repeat, and the usual split here."""


class QuickDraw(ImageSource):
    """Quick, Draw!'s sketches, white ink on black.

    Args:
        data_dir: holds ``quickdraw345x100_28x28.npz``, an array ``images``, uint8 ``(345, 100, 28, 28)``, and an array
            ``class_names`` of strings; or Google's files, ``NAME.npy`` for each category, uint8 ``(n, 784)``, perhaps with
            ``full_numpy_bitmap_`` in front; directly or in ``quickdraw/``.
        split: of those in circulation (``metadataset``); None takes the one of this project.
        drawings: of each category, the first of its file; None takes all.
        allow_partial: accept fewer categories.
    """

    version = 1
    image_shape = (1, SIZE, SIZE)

    def __init__(
        self, data_dir: str, split: str | None = None, drawings: int | None = None, allow_partial: bool = False
    ) -> None:
        if drawings is not None:
            check_int("data.source.drawings", drawings, least=1)
        self._root, self._drawings, self._allow_partial = Path(data_dir), drawings, allow_partial
        self.split = None if split is None else check_split("quickdraw", split)
        named = ("quickdraw", split, str(drawings or ""), "partial" if allow_partial else "")
        self.name = "-".join(filter(None, named))

    @property
    def arguments(self) -> dict[str, str]:
        """None: the name says them all, and files that were prepared before there was a choice remain."""
        return {}

    def files(self, split: str) -> list[Path]:
        return [self._archive] if self._archive else [self._of_category[name] for name in self._names(split)]

    def classes(self, split: str) -> list[ImageClass]:
        return [ImageClass(name, "sketches", self._size(name)) for name in self._names(split)]

    def images(self, split: str) -> Iterator[npt.NDArray[np.uint8]]:
        if self._archive is None:
            for name in self._names(split):
                yield np.ascontiguousarray(_bitmaps(self._of_category[name])[: self._drawings])[:, None]
            return
        images = _read(self._archive, "images", np.uint8, (CATEGORIES, DRAWINGS, SIZE, SIZE))
        for name in self._names(split):
            yield images[self._rows[name]][: self._drawings, None]

    def pixels(self, data: bytes, origin: str) -> npt.NDArray[np.uint8]:
        return white_on_black(decode(data, "L", (SIZE, SIZE), origin))[None]

    def _size(self, name: str) -> int:
        there = DRAWINGS if self._archive else len(_bitmaps(self._of_category[name]))
        return min(there, self._drawings or there)

    @cached_property
    def _archive(self) -> Path | None:
        """The file with all categories, if it is there."""
        places = (self._root / "quickdraw" / FILE, self._root / FILE)
        return next((path for path in places if path.is_file()), None)

    @cached_property
    def _of_category(self) -> dict[str, Path]:
        """The file of each category, where they have one each."""
        known = part_of_class("quickdraw", "metadataset")
        folders = (self._root / "quickdraw", self._root)
        for folder in (folder / below for folder in folders for below in BELOW):
            named = {unquote(path.stem).removeprefix(PREFIX): path for path in sorted(folder.glob("*.npy"))}
            if found := {name: path for name, path in named.items() if name in known}:
                if len(found) < CATEGORIES and not self._allow_partial:
                    first = min(set(known) - set(found))
                    raise UserError(
                        f"{folder} lacks {CATEGORIES - len(found)} of the {CATEGORIES} categories (first: {first}.npy); put "
                        "them there, or accept fewer with data.allow_partial=true"
                    )
                return found
        raise UserError(
            f"paths.data_dir={self._root} lacks {FILE}, or {PREFIX}NAME.npy of each category; put it there or in its quickdraw/"
        )

    @cached_property
    def _rows(self) -> dict[str, int]:
        """Of the categories of the file with all of them: their rows in its arrays."""
        path = self._archive
        if path is None:
            return {}
        names = [str(name) for name in _read(path, "class_names", np.str_, (CATEGORIES,))]
        if len(set(names)) != CATEGORIES:
            raise UserError(f"{path}: class_names names a category twice; replace the file")
        return {name: row for row, name in enumerate(names)}

    def _names(self, split: str) -> list[str]:
        """The categories of a part that are there, sorted."""
        there = self._rows if self._archive else self._of_category
        if self.split is not None:
            parts = part_of_class("quickdraw", self.split)
            return sorted(name for name in there if parts.get(name) == split)
        every = self._rows if self._archive else part_of_class("quickdraw", "metadataset")
        order = sorted(every, key=lambda name: hashlib.sha256(name.encode()).digest())
        return sorted(name for name in (order[i] for i in SHARES[split]) if name in there)


def _bitmaps(path: Path) -> npt.NDArray[np.uint8]:
    """The drawings ``(n, 28, 28)`` of a category's file, memory-mapped.

    Raises:
        UserError: it is no such file.
    """
    array = map_array(path)
    if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != SIZE * SIZE:
        raise UserError(f"{path}: it is {array.dtype} {array.shape} instead of uint8 (n, {SIZE * SIZE}); replace the file")
    return array.reshape(-1, SIZE, SIZE)


def _read(path: Path, name: str, kind: type[np.generic], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """An array of the file with all categories.

    Raises:
        UserError: it has another type or shape.
    """
    array = read_array(Place(path), name)
    if array.dtype.type is not kind or array.shape != shape:
        raise UserError(f"{path}: {name} is {array.dtype} {array.shape} instead of {kind.__name__} {shape}; replace the file")
    return array
