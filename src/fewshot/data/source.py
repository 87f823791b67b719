"""What a data set of images has to offer before it can be prepared: the one interface that a new data set implements."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

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
