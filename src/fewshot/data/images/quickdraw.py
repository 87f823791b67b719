"""Quick, Draw!: sketches of 345 things by people at play (Ha & Eck 2018), 100 of each as 28x28 grey images."""

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from fewshot.data.files.archives import open_zip
from fewshot.data.images.decode import decode, white_on_black
from fewshot.data.source import ImageClass, ImageSource
from fewshot.errors import UserError

FILE = "quickdraw345x100_28x28.npz"
CATEGORIES, DRAWINGS, SIZE = 345, 100, 28
SHARES = {"train": range(207), "val": range(207, 276), "test": range(276, 345)}
"""Three fifths, one fifth and one fifth of the categories in the order of the SHA-256 of their names.

A draw that anyone can repeat: nobody has published a split."""


class QuickDraw(ImageSource):
    """Quick, Draw!'s sketches, white ink on black.

    Args:
        data_dir: holds ``quickdraw345x100_28x28.npz``, directly or in ``quickdraw/``: an array ``images``, uint8
            ``(345, 100, 28, 28)``, and an array ``class_names`` of strings.
    """

    name = "quickdraw"
    version = 1
    image_shape = (1, SIZE, SIZE)

    def __init__(self, data_dir: str) -> None:
        self._root = Path(data_dir)

    def files(self, split: str) -> list[Path]:
        return [self._path]

    def classes(self, split: str) -> list[ImageClass]:
        return [ImageClass(self._names[row], "sketches", DRAWINGS) for row in self._rows(split)]

    def images(self, split: str) -> Iterator[npt.NDArray[np.uint8]]:
        images = _read(self._path, "images", np.dtype(np.uint8), (CATEGORIES, DRAWINGS, SIZE, SIZE))
        for row in self._rows(split):
            yield images[row][:, None]

    def pixels(self, data: bytes, origin: str) -> npt.NDArray[np.uint8]:
        return white_on_black(decode(data, "L", (SIZE, SIZE), origin))[None]

    @cached_property
    def _path(self) -> Path:
        places = (self._root / "quickdraw" / FILE, self._root / FILE)
        found = next((path for path in places if path.is_file()), None)
        if found is None:
            raise UserError(f"paths.data_dir={self._root} lacks {FILE}; put it there or in its quickdraw/")
        return found

    @cached_property
    def _names(self) -> list[str]:
        names = [str(name) for name in _read(self._path, "class_names", np.dtype(np.str_), (CATEGORIES,))]
        if len(set(names)) != CATEGORIES:
            raise UserError(f"{self._path}: class_names names a category twice; replace the file")
        return names

    def _rows(self, split: str) -> list[int]:
        """Of the file's arrays, in the order of the names."""
        names = sorted(self._names, key=lambda name: hashlib.sha256(name.encode()).digest())
        members = {names[i] for i in SHARES[split]}
        return sorted((row for row, name in enumerate(self._names) if name in members), key=self._names.__getitem__)


def _read(path: Path, array: str, kind: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """An array of an npz file, once its header has promised what is expected.

    Raises:
        UserError: it promises something else, or breaks its promise.
    """
    member, archive = f"{array}.npy", open_zip(path)
    try:
        with archive.open(member) as file:
            header = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
            there, _, dtype = header(file)
        values = None
        if there == shape and dtype.kind == kind.kind and (not kind.itemsize or dtype == kind):
            with archive.open(member) as file:
                values = npy.read_array(file, allow_pickle=False)
    except Exception as error:  # a header is believed until it makes no sense
        raise UserError(f"{path}: {array} cannot be read ({error}); replace the file") from error
    if values is None:
        raise UserError(f"{path}: {array} is {dtype} {there} instead of {kind} {shape}; replace the file")
    return values
