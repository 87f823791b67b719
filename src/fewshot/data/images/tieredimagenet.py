"""tieredImageNet: 608 classes of ILSVRC-2012 in 34 categories, each category in one part (Ren et al. 2018)."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from fewshot.data.files.arrays import read_array
from fewshot.data.files.pickles import load_dict, load_pickle, type_name
from fewshot.data.files.places import Place
from fewshot.data.files.stored import Content, Load, StoredImage, label_numbers, require_pixels, stored_images
from fewshot.data.images.class_trees import in_class_folders, split_folder
from fewshot.data.images.imagenet_names import wnid_of
from fewshot.data.images.listed import PlacedImage
from fewshot.data.images.split_images import AnyImage, SplitImages
from fewshot.errors import UserError

IMAGES = {"train": 448_695, "val": 124_261, "test": 206_209}
NUMBERS = re.compile(r"\d+_(\d+)")
"""FRN's folders: the number of a category and that of a class in its part."""


class TieredImageNet(SplitImages):
    """tieredImageNet in the forms that people have.

    Classes are called by their WordNet id, or by part and number where a form has no names: then nothing tells that another
    dataset was trained on them.

    - Ren's ``PART_images_png.pkl`` (PNG files) or ``PART_images.npz`` with ``PART_labels.pkl`` (``label_specific_str``);
    - MetaOptNet's ``PART_images.npz`` with ``PART_labels.pkl`` (``labels``: numbers);
    - folders of classes, called by WordNet id or name, in folders of the parts or not, as ILSVRC's own ``train/``; FRN's are
      numbers.

    Arrays of npz files are in the order blue, green, red, and are turned.
    """

    folder, usual = "tieredimagenet", "ren"
    other_folders = ("tiered-imagenet", "tiered_imagenet", "tiered-ImageNet", "tieredImageNet")
    tars = ("tiered-imagenet.tar", "tiered_imagenet.tar")
    forms = "PART_images_png.pkl or PART_images.npz with PART_labels.pkl, folders called by WordNet id, or archives of them"

    def found_in(self, part: str) -> Sequence[AnyImage]:
        for suffix, load in (("images_png.pkl", _png_files), ("images.npz", _blue_green_red)):
            for name in (f"{part}_{suffix}", f"tiered-imagenet-{part}_{suffix}"):
                if images := self.file(name):
                    labels = images.beside(name.replace(suffix, "labels.pkl"))
                    return self.of_part(part, self._stored(part, images, labels, load))
        return self.of_part(part, self._in_folders)

    def check_sizes(self, part: str, sizes: Mapping[str, int]) -> None:
        if (found := sum(sizes.values())) != IMAGES[part]:
            raise UserError(
                f"{self.where} has {found:,} {part} images of {self.name} instead of {IMAGES[part]:,}; replace the files, or "
                "accept others with data.allow_partial=true"
            )

    @cached_property
    def _in_folders(self) -> list[PlacedImage]:
        return list(in_class_folders(self.where, self.every, _label, joined=False))

    def _stored(self, part: str, images: Place, labels: Place, load: Load) -> list[StoredImage]:
        content = load_dict(labels)
        if "label_specific" not in content:
            numbers = label_numbers(content.get("labels"), labels)
            return stored_images(images, load, numbers, {number: f"{part} {number:03d}" for number in set(numbers)}, labels)
        phrases = content.get("label_specific_str")
        if not isinstance(phrases, list | tuple):
            raise UserError(f"{labels} has no label_specific_str, the names of the classes; download it again")
        names = {number: _wnid(phrase, labels) for number, phrase in enumerate(phrases)}
        return stored_images(images, load, label_numbers(content["label_specific"], labels), names, labels)


def _label(place: Place) -> str | None:
    numbers, part = NUMBERS.fullmatch(place.folder), split_folder(place.name.parent.parent.name)
    return f"{part} {int(numbers[1]):03d}" if numbers and part else wnid_of(place.folder)


def _wnid(phrase: Any, labels: Place) -> str:
    name = phrase.decode("latin1") if isinstance(phrase, bytes) else phrase
    if not isinstance(name, str):
        raise UserError(f"{labels} has {type_name(name)} as the name of a class; download it again")
    wnid = wnid_of(name)
    if wnid is None:
        raise UserError(f"{labels} names a class {name[:80]!r}, which is none of ImageNet's here; download it again")
    return wnid


def _png_files(place: Place) -> tuple[int, Callable[[int], Content]]:
    """Arrays of uint8 ``(n,)`` or ``(n, 1)`` with the bytes of a PNG file each."""
    images = load_pickle(place)
    if not isinstance(images, list | tuple):
        raise UserError(f"{place} holds {type_name(images)} instead of a list of PNG files; download it again")
    return len(images), lambda row: _file(images[row])


def _file(item: Any) -> bytes:
    if not isinstance(item, np.ndarray) or item.dtype != np.uint8:
        raise ValueError(f"it is {type_name(item)} instead of an array of bytes")
    return item.tobytes()


def _blue_green_red(place: Place) -> tuple[int, Callable[[int], Content]]:
    images = read_array(place, "images")
    require_pixels(images, place)
    return len(images), lambda row: images[row][..., ::-1]
