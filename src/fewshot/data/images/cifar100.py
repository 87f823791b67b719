"""CIFAR-100 (Krizhevsky 2009) as few-shot datasets: CIFAR-FS (Bertinetto et al. 2019) and FC100 (Oreshkin et al. 2018)."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fewshot.data.catalogue import facts
from fewshot.data.files.arrays import array_names, read_array
from fewshot.data.files.download import download
from fewshot.data.files.pickles import load_dict
from fewshot.data.files.places import Place
from fewshot.data.files.stored import Content, StoredImage, label_numbers, require_pixels, stored_images
from fewshot.data.images.class_trees import in_class_folders
from fewshot.data.images.listed import PlacedImage
from fewshot.data.images.split_images import SplitImages
from fewshot.data.published import listed, published_classes
from fewshot.errors import UserError

IMAGES_PER_CLASS = 600
SIZE = 32
ROW = 2 + 3 * SIZE * SIZE
"""Bytes of an image in the binary form: its superclass, its class, and its pixels."""


class Cifar100(SplitImages):
    """The 600 images of each class of CIFAR-100, of its training and test images together, in the forms that people have.

    - the archives ``cifar-100-python.tar.gz`` and ``cifar-100-binary.tar.gz``, unpacked or not; the former is downloaded where
      no form is found;
    - a file for each part: `part_files`, or ``PART.pickle`` in a folder of the dataset's own;
    - folders of classes, in folders of parts or not.

    Attributes:
        part_files: their names.
        own_numbers: their labels are CIFAR-100's own; else classes of other numbers are called by part and number.
    """

    other_folders: tuple[str, ...] = ("cifar100", "cifar-100")
    tars = ("cifar-100-python.tar.gz", "cifar-100-binary.tar.gz")
    part_files: tuple[str, ...]
    own_numbers: bool

    @property
    def forms(self) -> str:  # type: ignore[override]
        files = ", ".join(name.format(part="PART") for name in self.part_files)
        return f"{' or '.join(self.tars)}, or {files}, or folders called by class"

    def obtain(self) -> None:
        if any(self._found_in(part) for part in self.parts):
            return
        folder, (archive,) = Path(self._data_dir) / self.folder, facts(self.folder).files
        remedy = f"put {self.forms} into {folder}, or set paths.data_dir=FOLDER where they are"
        download(archive.urls, folder / archive.name, archive.md5, remedy)
        for name in ("where", "every", "places", "_by_name"):  # are looked for anew
            self.__dict__.pop(name, None)

    def found_in(self, part: str) -> Sequence[PlacedImage | StoredImage]:
        return self.of_part(part, self._found_in(part))

    def check_sizes(self, part: str, sizes: Mapping[str, int]) -> None:
        for label, size in sizes.items():
            if size != IMAGES_PER_CLASS:
                raise UserError(
                    f"{self.where} has {size} images of {label} instead of {IMAGES_PER_CLASS}; put CIFAR-100's training and "
                    "test images there, or accept fewer with data.allow_partial=true"
                )

    def _found_in(self, part: str) -> Sequence[PlacedImage | StoredImage]:
        if not self.where.exists():
            return []
        return self._in_part_file(part) or self._in_archive() or list(in_class_folders(self.where, self.every, _label, True))

    def _in_part_file(self, part: str) -> list[StoredImage]:
        own = self.where != Path(self._data_dir).absolute()  # elsewhere, a file of so plain a name may be anybody's
        names_of_files = (*self.part_files, *(("{part}.pickle",) if own else ()))
        place = next((place for name in names_of_files if (place := self.file(name.format(part=part)))), None)
        if place is None:
            return []
        numbers = label_numbers(_arrays(place, "labels", "targets"), place)
        names, wanted = dict(enumerate(_names())), published_classes(self.folder, self.split)[part]
        if not {names.get(number) for number in numbers} <= set(wanted):
            if self.own_numbers or (place.name.name == f"{part}.pickle" and self.where.name in Cifar100.other_folders):
                raise UserError(f"{place} has labels other than CIFAR-100's numbers of the {part} classes; download it again")
            names = {number: f"{part} {number:03d}" for number in set(numbers)}
        return stored_images(place, _pixels, numbers, names)

    def _in_archive(self) -> list[StoredImage]:
        """The training and test images in CIFAR-100's own files, which lie beside one with the names of the classes."""
        for meta in self.every:
            if meta.name.name == "meta" and f"{meta.folder}/train" in self.places:
                found: Any = load_dict(meta).get("fine_label_names")
                files, labels, pixels = ("train", "test"), _python_labels, _python_pixels
            elif meta.name.name == "fine_label_names.txt":
                found, files = meta.read().decode("latin1").split(), ("train.bin", "test.bin")
                labels, pixels = _binary_labels, _binary_pixels
            else:
                continue
            are_names = isinstance(found, list) and all(isinstance(name, str) for name in found)
            if not are_names or sorted(found) != sorted(_names()):
                raise UserError(f"{meta} has not the names of CIFAR-100's classes; download it again")
            names = dict(enumerate(found))
            places = [meta.beside(file) for file in files]
            return [image for place in places for image in stored_images(place, pixels, labels(place), names)]
        return []


class CifarFS(Cifar100):
    """CIFAR-FS: 64, 16 and 20 classes, drawn at random."""

    folder, usual = "cifar_fs", "bertinetto"
    other_folders = ("CIFAR-FS", "cifar-fs", *Cifar100.other_folders)
    part_files, own_numbers = ("CIFAR_FS_{part}.pickle", "cifar_fs_{part}.pickle"), False


class FC100(Cifar100):
    """FC100: 60, 20 and 20 classes, those of a superclass in one part."""

    folder, usual = "fc100", "tadam"
    other_folders = ("FC100", *Cifar100.other_folders)
    part_files, own_numbers = ("FC100_{part}.pickle", "few-shot-{part}.npz"), True


@cache
def _names() -> tuple[str, ...]:
    """CIFAR-100's classes by their number."""
    return tuple(listed("lists", "cifar100_names"))


def _label(place: Place) -> str | None:
    name = place.folder.lower().replace(" ", "_").replace("-", "_")
    return name if name in _names() else None


def _arrays(place: Place, *names: str) -> Any:
    """The first of some arrays in a pickled dict or an npz file."""
    if place.name.suffix == ".npz":
        return read_array(place, next((name for name in names if name in array_names(place)), names[0]))
    content = load_dict(place)
    return next((content[name] for name in names if name in content), None)


def _pixels(place: Place) -> tuple[int, Callable[[int], Content]]:
    images = require_pixels(_arrays(place, "data", "features"), place)
    return len(images), images.__getitem__


def _python_labels(place: Place) -> list[int]:
    return label_numbers(load_dict(place).get("fine_labels"), place)


def _python_pixels(place: Place) -> tuple[int, Callable[[int], Content]]:
    return _channels_last(load_dict(place).get("data"), place)


def _binary_rows(place: Place) -> npt.NDArray[np.uint8]:
    with place.open() as file:
        data = file.read()
    if not data or len(data) % ROW:
        raise UserError(f"{place} has {len(data)} bytes, which are no rows of {ROW}; download it again")
    return np.frombuffer(data, np.uint8).reshape(-1, ROW)


def _binary_labels(place: Place) -> list[int]:
    return label_numbers(_binary_rows(place)[:, 1], place)


def _binary_pixels(place: Place) -> tuple[int, Callable[[int], Content]]:
    return _channels_last(_binary_rows(place)[:, 2:], place)


def _channels_last(rows: Any, place: Place) -> tuple[int, Callable[[int], Content]]:
    """Rows ``(n, 3 * H * W)``, red, green and blue after another, as images."""
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != 3 * SIZE * SIZE:
        raise UserError(f"{place} has no rows of {3 * SIZE * SIZE} bytes; download it again")
    images = rows.reshape(-1, 3, SIZE, SIZE).transpose(0, 2, 3, 1)
    return len(images), images.__getitem__
