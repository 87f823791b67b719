"""Caltech-UCSD Birds-200-2011: 11,788 photographs of 200 kinds of birds (Wah et al. 2011)."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import PurePosixPath

from fewshot.data.files.places import Place
from fewshot.data.images.class_trees import in_class_folders
from fewshot.data.images.decode import Box
from fewshot.data.images.listed import PlacedImage
from fewshot.data.images.split_images import SplitImages
from fewshot.data.published import listed
from fewshot.errors import UserError

NUMBERS = re.compile(r"_\d+_\d+$")
"""What follows the name of the class in that of an image."""
CROPPED = re.compile(r"(?:^|[_\W])cropped(?:[_\W]|$)", re.IGNORECASE)
"""In the name of a folder or archive of birds that are cut out; not in ``images_uncropped``."""
MASKS = "segmentations"
"""The folder of pictures that say which pixels show the bird, called as the photographs are."""


class CUB(SplitImages):
    """CUB-200-2011 in the forms that people have, each image known by its folder or its own name.

    - ``CUB_200_2011.tgz``, unpacked or not: ``images/NNN.Name/Name_NNNN_NNNNN.jpg``, and ``bounding_boxes.txt``;
    - FRN's folders of parts and classes, in ``CUB_fewshot_raw`` or ``CUB_fewshot_cropped``, or the ``.tar`` of that name;
    - EasyFSL's ``images.tgz``: folders of classes;
    - images in one folder: FEAT's, which are cropped, with ``train.csv`` (``filename, label, concept_label``), or others'.

    Args:
        data_dir: holds it, directly or in ``cub/`` or ``CUB_200_2011/``.
        image_shape: ``(C, H, W)`` that images are brought to.
        split: ``closerlook``, ``frn``, ``feat`` (100/50/50 classes), ``metadataset`` (140/30/30), ``dn4_2019`` or ``dn4_2023``
            (130/20/50). They contradict each other: ``frn`` tests the very classes that ``closerlook`` trains on.
        crop: cut the birds out by their bounding boxes, which is worth some 15 points.
        in_imagenet: keep the 43 images that are in ImageNet too.
        allow_partial: accept fewer classes and images.
    """

    folder, usual = "cub", "closerlook"
    other_folders = ("cub2011", "CUB_200_2011", "CUB", "cub_200_2011")
    tars = (
        *("CUB_200_2011.tgz", "CUB_200_2011.tar.gz", "CUB_200_2011.tar"),
        *("CUB_fewshot_raw.tar", "CUB_fewshot_cropped.tar", "images.tgz"),
    )
    forms = "CUB_200_2011.tgz, or its images in folders called by class, or in one folder"

    def __init__(
        self,
        data_dir: str,
        image_shape: Sequence[int],
        split: str | None = None,
        crop: bool = False,
        in_imagenet: bool = True,
        allow_partial: bool = False,
    ) -> None:
        super().__init__(data_dir, image_shape, split, allow_partial)
        also_there = {_stem(PurePosixPath(name)) for name in listed("lists", "cub_in_imagenet")}
        self._crop, self._left_out = crop, set() if in_imagenet else also_there
        self.name += "-cropped" * crop + "-without_imagenet" * (not in_imagenet)

    def found(self) -> Sequence[PlacedImage]:
        photographs = (place for place in self.every if MASKS not in place.name.parts)
        everything = in_class_folders(self.where, photographs, _label, joined=True)
        images = [image for image in everything if _stem(image.place.name) not in self._left_out]
        if self._cut_out(images):
            if not self._crop:
                raise UserError(
                    f"data.source.crop=false but the birds in {self.where} are cut out by their bounding boxes already; set "
                    f"data.source.crop=true, or put {self.tars[0]} there"
                )
            return images
        return self._with_boxes(images) if self._crop else images

    def check_sizes(self, part: str, sizes: Mapping[str, int]) -> None:
        left_out = Counter(_class_of(stem) for stem in self._left_out)
        for label, size in sizes.items():
            if size != (expected := listed("lists", "cub_sizes")[label] - left_out[label]):
                published = ", of which published numbers of dn4_2019 are" if self.split == "dn4_2019" else ""
                raise UserError(
                    f"{self.where} has {size} images of {label} instead of {expected}; put {self.tars[0]} there, or accept "
                    f"others with data.allow_partial=true (CUB-200 of 2010 has other images{published})"
                )

    def _cut_out(self, images: Sequence[PlacedImage]) -> bool:
        """Whether images are FRN's or FEAT's, which show the bounding boxes alone."""
        listings = (place for place in self.every if place.name.name == "train.csv")
        return any(CROPPED.search(f"{self.where.name}/{self._below(image.place)}") for image in images[:1]) or any(
            b"concept_label" in listing.read()[:100] for listing in listings
        )

    def _below(self, place: Place) -> str:
        """The names of the folders, and of the archive, that an image lies in."""
        file = place.path.relative_to(self.where) / (place.member or "")
        return file.parent.as_posix()

    def _with_boxes(self, images: Sequence[PlacedImage]) -> list[PlacedImage]:
        """The images with the bounding box of each, whose file counts from 1: left, top, width and height."""
        numbers = {_stem(PurePosixPath(name)): number for number, name in self.lines("images.txt", 2)}
        try:
            boxes = {number: _box(edges) for number, *edges in self.lines("bounding_boxes.txt", 5)}
            return [replace(image, box=boxes[numbers[_stem(image.place.name)]]) for image in images]
        except (KeyError, ValueError, OverflowError) as error:
            raise UserError(f"{self.where}: images.txt and bounding_boxes.txt have no box of {error}; replace them") from error


@cache
def _classes() -> dict[str, str]:
    """Each class by its name in small letters, with and without the number before it."""
    names: dict[str, int] = listed("lists", "cub_sizes")
    return {key.lower(): name for name in names for key in (name, name.partition(".")[2])}


def _class_of(stem: str) -> str | None:
    """The class that the name of an image begins with."""
    return _classes().get(NUMBERS.sub("", stem))


def _stem(name: PurePosixPath) -> str:
    return name.stem.lower()


def _label(place: Place) -> str | None:
    return _classes().get(place.folder.lower()) or _class_of(_stem(place.name))


def _box(edges: Sequence[str]) -> Box:
    left, top, width, height = map(float, edges)
    return math.floor(left), math.floor(top), math.ceil(left + width), math.ceil(top + height)
