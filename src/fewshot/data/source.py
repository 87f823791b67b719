"""What a dataset has to offer before it can be prepared: the one interface that a new dataset implements."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fewshot.data.images.decode import MODES, channels_first, decode, image_file
from fewshot.errors import UserError, check_text
from fewshot.tasks.table import CLASS, ORIGINAL, Column, Table

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class ArraySpec:
    """What one row of an array is: its shape and the name of its type, as in ``(1, 28, 28)`` and ``uint8``."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class ImageClass:
    """One class of a part.

    Attributes:
        name: unique within the dataset.
        group: what it belongs to (alphabet, script), the value of the column `Source.group`.
        size: number of its rows.
    """

    name: str
    group: str
    size: int


class Source(ABC):
    """A dataset: rows, listed with their columns and then read.

    Attributes:
        name: the dataset and the options that change its rows or classes, as in ``omniglot-vinyals``; names the prepared
            files and the streams of tasks.
        version: of the preparing code; raised whenever the prepared bytes change.
        x: inputs, of each row.
        y: targets, of each row; None where a row's class is its target.
        parts: that it is published in; of one part alone, ``("all",)``, where it has no split of its own.
        split: that it is divided by, where several are in circulation.
        group: the column of what classes belong to.
    """

    name: str
    version: int
    x: ArraySpec
    y: ArraySpec | None = None
    parts: tuple[str, ...] = SPLITS
    split: str | None = None
    group: str = "group"
    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *arguments: Any, **keywords: Any) -> "Source":
        source = super().__new__(cls)
        source._arguments = arguments, keywords
        return source

    @property
    def options(self) -> dict[str, str]:
        """What prepared arrays depend on beside files: those prepared with other options are not used."""
        return self.arguments

    @property
    def arguments(self) -> dict[str, str]:
        """What it was made with, but ``data_dir``: arrays are kept for each choice, side by side."""
        return {name: repr(value) for name, value in self._bound.items() if name != "data_dir"}

    @property
    def data_dir(self) -> str | None:
        """The folder that it was made with, from the root on; None of a source that looks in none."""
        given = self._bound.get("data_dir")
        return None if given is None else str(Path(given).resolve())

    @property
    def _bound(self) -> dict[str, Any]:
        """What it was made with, by name."""
        arguments, keywords = self._arguments
        bound = inspect.signature(type(self).__init__).bind(self, *arguments, **keywords)
        bound.apply_defaults()
        return dict(list(bound.arguments.items())[1:])

    def is_like(self, other: "Source") -> bool:
        """Whether another source was made with the same arguments."""
        return type(self) is type(other) and self._arguments == other._arguments

    def obtain(self) -> None:  # noqa: B027  most datasets that need no download have nothing to do here
        """Downloads what is missing and can be downloaded; does nothing where the data are there."""

    @abstractmethod
    def files(self, part: str) -> list[Path]:
        """The files that a part is made from.

        Raises:
            UserError: one is missing.
        """

    @abstractmethod
    def classes(self, part: str) -> list[ImageClass]:
        """The classes of a part, sorted by name, from listings alone: no content is read. Empty where rows have no class.

        Raises:
            UserError: files are missing, corrupt, or not this dataset.
        """

    def columns(self, part: str) -> dict[str, Sequence[str]]:
        """Further columns (patient, user, domain): their names row by row, the rows of a class together as in `classes`."""
        return {}

    def original(self, name: str) -> str:
        """The class that a class is an augmented copy of (a turned character's upright one); itself, of most.

        Splits keep copies with their originals, and have them in the training part alone.
        """
        return name

    @abstractmethod
    def read(self, part: str) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any] | None]]:
        """Inputs ``(n, ...)`` and targets ``(n, ...)``, block by block, in the order of the rows; class by class, if there are.

        Raises:
            UserError: a file cannot be decoded.
        """

    def encode(self, item: Any) -> npt.NDArray[Any]:
        """What a user brings (for instance a sentence) as a row's input, made as `read` makes it of the dataset's own.

        Raises:
            UserError: it cannot be.
        """
        raise UserError(f"{self.name}: {str(item)[:80]!r} cannot be read; bring arrays of shape {list(self.x.shape)}")


class ImageSource(Source):
    """A dataset of images in classes.

    Attributes:
        image_shape: ``(C, H, W)``
    """

    image_shape: tuple[int, int, int]

    @property
    def x(self) -> ArraySpec:  # type: ignore[override]
        return ArraySpec(tuple(self.image_shape), "uint8")

    @abstractmethod
    def images(self, split: str) -> Iterator[npt.NDArray[np.uint8]]:
        """Each class's images ``(size, C, H, W)``, in the order of `classes`.

        Raises:
            UserError: an image cannot be decoded.
        """

    def read(self, part: str) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any] | None]]:
        return ((images, None) for images in self.images(part))

    def encode(self, item: Any) -> npt.NDArray[np.uint8]:
        """The image in a file (a path), or one of Pillow's, or an array ``(H, W)``, ``(H, W, C)``, as ``(C, H, W)``."""
        return self.pixels(*image_file(item))

    def pixels(self, data: bytes, origin: str) -> npt.NDArray[np.uint8]:
        """An image file ``(C, H, W)``, brought to shape as the dataset's own images are.

        Args:
            data: the file.
            origin: what to call it in an error.
        """
        channels, height, width = self.image_shape
        return channels_first(decode(data, MODES[channels], (height, width), origin))


def table_of(source: Source, classes: Sequence[ImageClass], columns: Mapping[str, Sequence[str]]) -> Table:
    """The table of rows that are listed by class, and row by row.

    Raises:
        UserError: a name in it is no text, which results, cards and pages could not have.
    """
    found = {name: Column.of(names) for name, names in columns.items()}
    if classes:
        numbers = np.arange(len(classes)).repeat([c.size for c in classes])
        names = tuple(c.name for c in classes)
        found[CLASS] = Column(names, numbers)
        of_classes = {source.group: [c.group for c in classes]}
        if type(source).original is not Source.original:  # in every part, so that parts can be joined
            of_classes[ORIGINAL] = [source.original(name) for name in names]
        for name, values in of_classes.items():
            column = Column.of(values)
            found[name] = Column(column.names, column.values[numbers])
    for name, column in found.items():
        check_text(f"{source.name}: the {name}", column.names)
    return Table(found)


def require(path: Path) -> Path:
    """The path of a file or folder, if it is there.

    Raises:
        UserError: it is not.
    """
    if not path.exists():
        raise UserError(f"{path.absolute()} is missing; put it there or set paths.data_dir=FOLDER")
    return path


@contextmanager
def reading(source: Source) -> Iterator[None]:
    """Turns the operating system's refusal to read a source's file into one that names the file."""
    try:
        yield
    except OSError as error:
        what = f"{error.filename} cannot be read ({error.strerror})" if error.filename else f"a file cannot be read ({error})"
        raise UserError(f"{source.name}: {what}; replace it or set paths.data_dir=FOLDER") from error
