"""Images that a listing names one by one, each with its class and whatever else is known of it."""

import json
import logging
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fewshot.data.catalogue import catalogue, facts, lacking
from fewshot.data.files.mat import load_mat
from fewshot.data.files.places import Place, all_places, by_folder_and_name, own_folder
from fewshot.data.files.rows import read_rows, read_text
from fewshot.data.images.decode import MODES, Box, channels_first, decode
from fewshot.data.source import ImageClass, ImageSource
from fewshot.errors import UserError

log = logging.getLogger(__name__)

IMAGENET = "imagenet"
"""The dataset, and its folder, that others are parts of."""


class ImageEntry(Protocol):
    """An image that a listing names."""

    @property
    def label(self) -> str:
        """Its class."""

    @property
    def columns(self) -> Mapping[str, str]:
        """What else is known of it: the value of each column."""

    @property
    def origin(self) -> str:
        """What to call it in an error."""

    def read(self) -> bytes | npt.NDArray[np.uint8]:
        """The image file, or its pixels ``(H, W, C)``."""


class ListedImages(ImageSource):
    """A dataset whose images are listed; classes, columns and pixels follow from the list."""

    @abstractmethod
    def listed(self, part: str) -> Sequence[ImageEntry]:
        """The images of a part, those of a class together, the classes sorted by name.

        Raises:
            UserError: files are missing, or not this dataset.
        """

    def group_of(self, label: str) -> str:
        """What a class belongs to."""
        return self.name

    def classes(self, part: str) -> list[ImageClass]:
        sizes = Counter(image.label for image in self.listed(part))
        return [ImageClass(label, self.group_of(label), sizes[label]) for label in sorted(sizes)]

    def columns(self, part: str) -> dict[str, Sequence[str]]:
        images = self.listed(part)
        return {name: [image.columns[name] for image in images] for name in images[0].columns}

    def images(self, split: str) -> Iterator[npt.NDArray[np.uint8]]:
        with ThreadPoolExecutor() as pool:  # decoding releases the interpreter lock
            for _, of_class in groupby(self.listed(split), lambda image: image.label):
                yield np.stack(list(pool.map(self.decoded, of_class)))

    def decoded(self, image: ImageEntry) -> npt.NDArray[np.uint8]:
        """An image ``(C, H, W)`` that is listed.

        Raises:
            UserError: it cannot be decoded.
        """
        content = image.read()
        if isinstance(content, bytes):
            return self.pixels(content, image.origin)
        as_they_are = channels_first(content)
        return as_they_are if as_they_are.shape == self.image_shape else self.encode(content)


@dataclass(frozen=True)
class PlacedImage:
    """An image of a published dataset.

    Attributes:
        box: the part of it that is taken; None takes all.
    """

    place: Place
    label: str
    columns: dict[str, str] = field(default_factory=dict)
    box: Box | None = None

    @property
    def origin(self) -> str:
        """What to call it in an error."""
        return str(self.place)

    def read(self) -> bytes:
        """The image file."""
        return self.place.read()


class PublishedImages(ListedImages):
    """A published dataset as it is downloaded: a folder of files and archives, which need not be unpacked.

    Its rows have a column ``file`` beside what the listing says.

    Args:
        data_dir: holds the dataset, directly or in the folder `folder`.
        image_shape: ``(C, H, W)`` that images are brought to: 1 channel for grey, 3 for colour.
        allow_partial: leave out images that are listed and not there.

    Attributes:
        folder: the name of the dataset's own folder in `data_dir`.
        other_folders: what else that folder is called.
        tars: names of the tar archives that the dataset is published in; zip archives are all read.
        forms: what is looked for, as said where nothing is found.
        counted: the dataset in the catalogue that has as many classes and images as there must be; None takes what there is.
    """

    version = 1
    parts: tuple[str, ...] = ("all",)
    folder: str
    other_folders: tuple[str, ...] = ()
    tars: tuple[str, ...] = ()
    forms: str
    counted: str | None = None

    def __init__(self, data_dir: str, image_shape: Sequence[int], allow_partial: bool = False) -> None:
        channels, height, width = image_shape
        if channels not in MODES:
            raise UserError(f"data.image_shape={list(image_shape)} must have 1 channel, grey, or 3, colour")
        self.image_shape = (channels, height, width)
        self._data_dir, self._allow_partial = data_dir, allow_partial
        self._missing: list[str] = []
        self._read: list[Place] = []  # csv files that the listing was read from
        self._broken: list[UserError] = []  # archives, perhaps of others, that were left out

    @abstractmethod
    def found(self) -> Iterable[PlacedImage]:
        """All images, in any order.

        Raises:
            UserError: files are missing, or not this dataset.
        """

    def listed(self, part: str) -> Sequence[PlacedImage]:
        return self._listed

    def files(self, part: str) -> list[Path]:
        return sorted({image.place.path for image in self._listed} | {place.path for place in self._read})

    def required(self, name: str) -> Place:
        """The dataset's file of that name, in whatever folder; the data change with it."""
        place = self._by_name.get(name)
        if place is None:
            raise self.lacking(
                f"paths.data_dir={self._data_dir} lacks {name}; put there, or into its {self.folder}/, {self.forms}"
            )
        self._read.append(place)
        return place

    def lacking(self, message: str) -> UserError:
        """The error that something of the dataset is not there: where it can be had, and which archives could not be opened."""
        return lacking(message, self.folder, self._broken)

    def rows(self, name: str, columns: Sequence[str]) -> list[dict[str, str]]:
        """The lines of the dataset's csv file of that name, which must have these columns."""
        return [row for _, row in read_rows(self.required(name), columns)]

    def lines(self, name: str, fields: int) -> list[list[str]]:
        """The lines of the dataset's text file of that name, each parted at its first spaces into so many fields."""
        place = self.required(name)
        lines = [line.strip().split(" ", fields - 1) for line in read_text(place).splitlines() if line.strip()]
        if wrong := [line for line in lines if len(line) != fields]:
            raise UserError(f"{place}: {' '.join(wrong[0])[:80]!r} has not {fields} fields; replace the file")
        return lines

    def json(self, name: str) -> Any:
        """The content of the dataset's JSON file of that name."""
        place = self.required(name)
        try:
            return json.loads(read_text(place))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place} is no JSON ({error}); replace the file") from error

    def mat(self, name: str) -> dict[str, Any]:
        """The arrays of the dataset's MATLAB file of that name."""
        return load_mat(self.required(name))

    def file(self, name: str) -> Place | None:
        """The file of that name, in whatever folder."""
        return self._by_name.get(name)

    def has(self, name: str) -> bool:
        """Whether there is a file of that name, in whatever folder."""
        return name in self._by_name

    def image(
        self, name: str, label: str, box: Box | None = None, anywhere: bool = True, **columns: str
    ) -> Iterator[PlacedImage]:
        """The image that a listing names; none where it is left out as missing.

        Args:
            name: with the folders above it, of which the last one counts; its suffix may be in capitals or not.
            label: its class.
            box: the part of it that is taken.
            anywhere: where that folder has none, one of the file's name in any other will do.
            columns: what else is known of it.
        """
        suffix = PurePosixPath(name).suffix
        written = [PurePosixPath(name.removesuffix(suffix) + one) for one in (suffix, suffix.lower(), suffix.upper())]
        found = [self.places.get("/".join(path.parts[-2:])) for path in written]
        found += [self._by_name.get(path.name) for path in written] if anywhere else []
        place = next(filter(None, found), None)
        if place is None:
            self._missing.append(name)
        else:
            yield PlacedImage(place, label, {"file": name, **columns}, box)

    def decoded(self, image: ImageEntry) -> npt.NDArray[np.uint8]:
        if not isinstance(image, PlacedImage) or image.box is None:
            return super().decoded(image)
        channels, height, width = self.image_shape
        return channels_first(decode(image.read(), MODES[channels], (height, width), image.origin, box=image.box))

    @cached_property
    def where(self) -> Path:
        """The folder that holds the dataset."""
        return own_folder(self._data_dir, self.folder, *self.other_folders)

    @cached_property
    def every(self) -> list[Place]:
        """All files; where the dataset has no folder of its own, without those in the folders of others."""
        own = self.where != Path(self._data_dir).absolute()
        if not self.where.is_dir():
            raise self.lacking(f"{self.where} is missing; put there {self.forms}, or set paths.data_dir=FOLDER where they are")
        return all_places(self.where, self.tars) if own else self._every_in_data_dir()

    def _every_in_data_dir(self) -> list[Place]:
        """All files of a folder of all datasets, where another's broken archive matters only if something is missing."""
        self._broken.clear()
        return all_places(self.where, self.tars, self._folders_of_others, self._broken)

    @property
    def _folders_of_others(self) -> set[str]:
        """The datasets that are other files; ImageNet's may be anybody's."""
        known = catalogue()
        mine = known[self.folder].files if self.folder in known else ()
        return {name for name, of in known.items() if name not in (self.folder, IMAGENET) and not (mine and of.files == mine)}

    @cached_property
    def places(self) -> dict[str, Place]:
        """All files, by the last two parts of their names."""
        return by_folder_and_name(self.every)

    @cached_property
    def _by_name(self) -> dict[str, Place]:
        return {key.rpartition("/")[2]: place for key, place in reversed(self.places.items())}

    @cached_property
    def _listed(self) -> list[PlacedImage]:
        images = sorted(self.found(), key=lambda image: (image.label, image.columns["file"]))
        if self._missing and not self._allow_partial:
            raise self.lacking(
                f"{self.where} lacks {len(self._missing):,} images that are listed (first: {self._missing[0]}); put them "
                "there, or leave them out with data.allow_partial=true"
            )
        if not images:
            raise self.lacking(
                f"{self.where} holds no image of {self.name}; put there {self.forms}, or set paths.data_dir=FOLDER"
            )
        times = Counter((image.place, image.label) for image in images if image.box is None)
        if twice := next((image for image in times if times[image] > 1), None):
            raise UserError(
                f"{twice[0]} is listed more than once as {twice[1]}, and would be in both support and query set; list it once"
            )
        self._refuse_other_numbers(len({image.label for image in images}), len(images))
        left_out = f"; {len(self._missing):,} listed images are missing" if self._missing else ""
        log.info(f"{self.name}: {len({image.label for image in images})} classes, {len(images):,} images{left_out}")
        return images

    def _refuse_other_numbers(self, classes: int, images: int) -> None:
        """Refuses fewer classes or images than are published, and more."""
        if self.counted is None or self._allow_partial:
            return
        known = facts(self.counted)
        if (classes, images) != (known.classes or classes, known.images or images):
            expected = f"{known.classes:,} and {known.images:,}" if known.images else f"{known.classes:,} classes"
            fewer = classes < (known.classes or 0) or images < (known.images or 0)
            raise (self.lacking if fewer else UserError)(
                f"{self.where} holds {classes:,} classes and {images:,} images of {self.name} instead of {expected}; put all "
                "of them there, or accept what there is with data.allow_partial=true"
            )
