"""MNIST and its kin: small grey pictures in ten classes and more, in the files of LeCun et al. (1998)."""

import string
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fewshot.data.catalogue import facts, lacking
from fewshot.data.files.idx import read_idx
from fewshot.data.files.places import Place, all_places, own_folder
from fewshot.data.images.decode import MODES, white_on_black
from fewshot.data.source import ImageClass, ImageSource
from fewshot.errors import UserError, suggest

DIGITS = tuple(string.digits)
BALANCED = (*string.digits, *string.ascii_uppercase, *"abdefghnqrt")
"""Letters whose small form looks otherwise than the capital have a class for each."""
NAMES = {
    "mnist": DIGITS,
    "fashion_mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}
"""Of the labels 0, 1, 2, ..."""
EMNIST = {
    "byclass": (*string.digits, *string.ascii_uppercase, *string.ascii_lowercase),
    "bymerge": BALANCED,
    "balanced": BALANCED,
    "letters": ("", *string.ascii_lowercase),  # labels begin with 1
    "digits": DIGITS,
    "mnist": DIGITS,
}
"""The same of each arrangement of EMNIST."""
FOLDERS = {
    "mnist": ("MNIST",),
    "fashion_mnist": ("FashionMNIST", "fashion-mnist"),
    "kmnist": ("KMNIST",),
    "emnist": ("EMNIST",),
}
"""What else a dataset's folder is called."""
DIMENSIONS = {"images": 3, "labels": 1}


class MNIST(ImageSource):
    """A dataset in idx files, compressed or not. What is published as training and as test has the same classes and is joined.

    Rows have a column ``published``, the part that they are from. The files of MNIST, Fashion-MNIST and Kuzushiji-MNIST are
    called the same: they are looked for in the dataset's own folder, or directly in `data_dir`, and in no other below it.

    Args:
        name: ``mnist``, ``fashion_mnist``, ``kmnist`` or ``emnist``.
        data_dir: holds ``{train,t10k}-{images-idx3,labels-idx1}-ubyte``, of EMNIST ``emnist-ARRANGEMENT-{train,test}-...``,
            with or without ``.gz``, also in a zip archive.
        image_shape: ``(C, H, W)`` that images are brought to.
        arrangement: of EMNIST, as ``balanced``; None of the others.
        allow_partial: accept other numbers of images than are published.
    """

    version = 1
    parts = ("all",)

    def __init__(
        self,
        name: str,
        data_dir: str,
        image_shape: Sequence[int],
        arrangement: str | None = None,
        allow_partial: bool = False,
    ) -> None:
        channels, height, width = image_shape
        if channels not in MODES:
            raise UserError(f"data.image_shape={list(image_shape)} must have 1 channel, grey, or 3, colour")
        if name == "emnist" and arrangement not in EMNIST:
            raise UserError(f"data.source.arrangement={arrangement} is unknown{suggest(str(arrangement), EMNIST)}")
        self._known, self._arrangement = facts(name), arrangement
        self._broken: list[UserError] = []
        self._classes = EMNIST[arrangement] if arrangement else NAMES[name]
        self._root, self._folder = Path(data_dir).absolute(), own_folder(data_dir, name, *FOLDERS[name])
        self.image_shape, self._allow_partial = (channels, height, width), allow_partial
        self.name = "-".join(filter(None, (name, arrangement))) + "-partial" * allow_partial

    def files(self, part: str) -> list[Path]:
        return sorted({self._place(of, kind).path for of in ("train", "test") for kind in ("images", "labels")})

    def classes(self, part: str) -> list[ImageClass]:
        return [ImageClass(name, self._known.name, len(rows)) for name, rows in self._rows.items()]

    def columns(self, part: str) -> dict[str, Sequence[str]]:
        first = len(self._labels["train"])
        return {"published": ["train" if row < first else "test" for rows in self._rows.values() for row in rows.tolist()]}

    def images(self, split: str) -> Iterator[npt.NDArray[np.uint8]]:
        train, test = (self._read_images(part) for part in ("train", "test"))
        if train.shape[1:] != test.shape[1:]:
            raise UserError(
                f"{self._folder}: training images are {train.shape[1:]} and test images {test.shape[1:]}; replace them"
            )
        images = np.concatenate([train, test])
        for rows in self._rows.values():
            of_class = images[rows].transpose(0, 2, 1) if self._arrangement else images[rows]  # EMNIST's lie on their side
            yield np.stack([self._fitted(image) for image in of_class])

    def pixels(self, data: bytes, origin: str) -> npt.NDArray[np.uint8]:
        pixels = super().pixels(data, origin)
        return white_on_black(pixels[0])[None] if len(pixels) == 1 else pixels

    def _fitted(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """A picture ``(H, W)`` in the shape asked for."""
        from PIL import Image

        height, width = self.image_shape[1:]
        if image.shape != (height, width):
            image = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
        return np.broadcast_to(image, self.image_shape)

    def _read_images(self, part: str) -> npt.NDArray[np.uint8]:
        place = self._place(part, "images")
        images = read_idx(place, DIMENSIONS["images"])
        if 0 in images.shape[1:]:
            raise UserError(f"{place} has images without pixels; replace it")
        if len(images) != len(self._labels[part]):
            raise UserError(f"{place} has {len(images):,} images, and there are {len(self._labels[part]):,} labels; replace it")
        return images

    def _place(self, part: str, kind: str) -> Place:
        """The file of a part; one that is not compressed comes first."""
        begins = f"emnist-{self._arrangement}-{part}" if self._arrangement else {"train": "train", "test": "t10k"}[part]
        name = f"{begins}-{kind}-idx{DIMENSIONS[kind]}-ubyte"
        dotted = name.replace("-idx", ".idx")
        for one in (name, dotted, f"{name}.gz", f"{dotted}.gz"):
            if one in self._there:
                return self._there[one]
        where = self._root / self._known.name if self._folder == self._root else self._folder
        lacks = f"{self._folder} lacks {name} and {name}.gz; put {self._known.name} into {where}"
        raise lacking(lacks, self._known.name, self._broken)

    @cached_property
    def _there(self) -> dict[str, Place]:
        """All files by name."""
        broken = self._broken if self._folder == self._root else None  # another dataset's archive is no reason to end
        places = all_places(self._folder, broken=broken) if self._folder.is_dir() else []
        if self._folder == self._root:
            places = [place for place in places if place.path.parent == self._root]
        return {place.name.name: place for place in reversed(places)}

    @cached_property
    def _labels(self) -> dict[str, npt.NDArray[np.uint8]]:
        """Of each published part."""
        return {part: read_idx(self._place(part, "labels"), DIMENSIONS["labels"]) for part in ("train", "test")}

    @cached_property
    def _rows(self) -> dict[str, npt.NDArray[np.int64]]:
        """Of each class, sorted by name, its rows through both parts."""
        labels, name = np.concatenate(list(self._labels.values())), self._known.name
        if (wrong := labels[labels >= len(self._classes)]).size:
            raise UserError(f"{self._folder}: label {wrong[0]} is none of {name}; replace the files")
        if self._known.images not in (None, len(labels)) and not self._allow_partial:
            raise UserError(
                f"{self._folder} holds {len(labels):,} images of {name} instead of {self._known.images:,}; download "
                "them again, or accept what there is with data.allow_partial=true"
            )
        rows = {name: np.flatnonzero(labels == label) for label, name in enumerate(self._classes)}
        return {name: rows[name] for name in sorted(rows) if len(rows[name])}
