"""What a data set of images has to offer before it can be prepared: the one interface that a new data set implements."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fewshot.errors import UserError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class ImageClass:
    """One class of a split.

    Attributes:
        name: unique within the data set.
        group: what it belongs to (alphabet, script); tasks can be drawn within one group.
        size: number of its images.
    """

    name: str
    group: str
    size: int


class ImageSource(ABC):
    """A data set of images.

    Attributes:
        name: the data set and the options that change its images or classes, as in ``omniglot-vinyals``; names the prepared
            files and the streams of tasks.
        version: of the preparing code; raised whenever the prepared bytes change.
        image_shape: ``(C, H, W)``
    """

    name: str
    version: int
    image_shape: tuple[int, int, int]
    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *arguments: Any, **keywords: Any) -> "ImageSource":
        source = super().__new__(cls)
        source._arguments = arguments, keywords
        return source

    @property
    def options(self) -> dict[str, str]:
        """The arguments that it was made with, but ``data_dir``: images prepared with other options are not used."""
        arguments, keywords = self._arguments
        bound = inspect.signature(type(self).__init__).bind(self, *arguments, **keywords)
        bound.apply_defaults()
        return {name: repr(value) for name, value in list(bound.arguments.items())[1:] if name != "data_dir"}

    def obtain(self) -> None:  # noqa: B027  most data sets that need no download have nothing to do here
        """Downloads what is missing and can be downloaded; does nothing where the data are there."""

    @abstractmethod
    def files(self, split: str) -> list[Path]:
        """The files that a split is made from.

        Raises:
            UserError: one is missing.
        """

    @abstractmethod
    def classes(self, split: str) -> list[ImageClass]:
        """The classes of a split, sorted by name, from listings alone: no image is decoded.

        Raises:
            UserError: files are missing, corrupt, or not this data set.
        """

    @abstractmethod
    def images(self, split: str) -> Iterator[npt.NDArray[np.uint8]]:
        """Each class's images ``(size, C, H, W)``, in the order of `classes`.

        Raises:
            UserError: an image cannot be decoded.
        """


def require(path: Path) -> Path:
    """The path of a file or folder, if it is there.

    Raises:
        UserError: it is not.
    """
    if not path.exists():
        raise UserError(f"{path.absolute()} is missing; put it there or set paths.data_dir=FOLDER")
    return path


@contextmanager
def reading(source: ImageSource) -> Iterator[None]:
    """Turns the operating system's refusal to read a source's file into one that names the file."""
    try:
        yield
    except OSError as error:
        what = f"{error.filename} cannot be read ({error.strerror})" if error.filename else f"a file cannot be read ({error})"
        raise UserError(f"{source.name}: {what}; replace it or set paths.data_dir=FOLDER") from error
