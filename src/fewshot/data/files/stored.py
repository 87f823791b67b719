"""Images that lie many in a file: read when the first of them is wanted, and forgotten soon, as some files fill the memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from fewshot.data.files.pickles import type_name
from fewshot.data.files.places import Place
from fewshot.errors import UserError

Content = bytes | npt.NDArray[np.uint8]
"""An image file, or pixels ``(H, W, C)``."""
Load = Callable[[Place], tuple[int, Callable[[int], Content]]]
"""Reads a file: how many images it has, and what gives each by its number."""

MOST = 2**20
"""Images in a file, more than any few-shot dataset has."""

_lock = Lock()  # images are decoded by several threads


@dataclass(frozen=True)
class StoredImage:
    """One image of a file that holds many.

    Attributes:
        place: of the file.
        load: reads it.
        count: images that it must have.
        row: the image's number.
        label: its class.
        listing: the file with the labels.
    """

    place: Place
    load: Load
    count: int
    row: int
    label: str
    columns: dict[str, str] = field(default_factory=dict)
    listing: Place | None = None

    @property
    def origin(self) -> str:
        """What to call it in an error."""
        return f"{self.place}: image {self.row}"

    def read(self) -> Content:
        """The image file, or its pixels.

        Raises:
            UserError: the file is corrupt, or has another number of images.
        """
        with _lock:
            count, content = _loaded(self.load, self.place)
        if count != self.count:
            raise UserError(f"{self.place} has {count} images, and there are labels of {self.count}; replace the files")
        try:
            return content(self.row)
        except Exception as error:  # what a hostile file holds raises whatever it likes
            raise UserError(f"{self.origin} cannot be read ({error}); replace the file") from error


def stored_images(
    place: Place, load: Load, numbers: Sequence[int], names: Mapping[int, str], listing: Place | None = None
) -> list[StoredImage]:
    """The images of a file, from the number of each one's class and the names of these.

    Args:
        listing: the file with the numbers, where it is another.

    Raises:
        UserError: a number has no name.
    """
    if unknown := set(numbers) - names.keys():
        raise UserError(f"{listing or place}: a label is {min(unknown)}, which has no name; download the file again")
    files = ({"file": f"{place.name.name} {row}"} for row in range(len(numbers)))
    return [
        StoredImage(place, load, len(numbers), row, names[label], columns, listing)
        for row, (label, columns) in enumerate(zip(numbers, files, strict=True))
    ]


def label_numbers(values: Any, place: Place) -> list[int]:
    """Labels as a list of whole numbers.

    Raises:
        UserError: they are none.
    """
    numbers = whole_numbers(values)
    if not numbers:
        raise UserError(f"{place} has no list of labels that are whole numbers; download it again")
    return numbers


def whole_numbers(values: Any, most: int = MOST) -> list[int]:
    """A list, tuple, range or array of whole numbers as a list; empty where it is none, or longer than `most`.

    Looked at element by element: NumPy would unfold what a few bytes of a pickle stand for, as lists of lists of one list.
    """
    if isinstance(values, np.ndarray):
        whole = values.ndim == 1 and np.issubdtype(values.dtype, np.integer)
    else:
        whole = isinstance(values, list | tuple | range)
    if not whole or len(values[: most + 1]) > most:  # a range may be too long for `len`
        return []
    if isinstance(values, list | tuple) and not all(map(_is_whole, values)):
        return []
    return [int(value) for value in values]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value).bit_length() < 64


def require_pixels(images: Any, place: Place) -> npt.NDArray[np.uint8]:
    """Images ``(n, H, W, 3)`` of uint8.

    Raises:
        UserError: they are something else.
    """
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        what = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type_name(images)
        raise UserError(f"{place} holds {what} instead of images of uint8 (n, H, W, 3); download it again")
    return images


@lru_cache(maxsize=2)  # CIFAR-100's classes are in two files
def _loaded(load: Load, place: Place) -> tuple[int, Callable[[int], Content]]:
    return load(place)


def forget_stored() -> None:
    """Frees the memory of the files that were read last."""
    _loaded.cache_clear()
