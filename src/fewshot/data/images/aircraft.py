"""FGVC-Aircraft: 10,000 photographs of 100 variants of aircraft (Maji et al. 2013)."""

import re
from collections.abc import Iterable, Iterator, Sequence

from fewshot.data.files.places import Place
from fewshot.data.images.class_trees import in_class_folders, split_folder
from fewshot.data.images.decode import Box
from fewshot.data.images.listed import PlacedImage
from fewshot.data.images.split_images import SplitImages
from fewshot.errors import UserError, suggest

CROPS = ("box", "banner", "none")
BANNER = 20
"""Pixels at the bottom of each photograph, with its copyright."""
NUMBERED = re.compile(r"[0-9]{1,2}/[0-9]{7}\.png")
"""FRN's images: the number of a class, and that of an image."""
LISTS = tuple(f"images_variant_{part}.txt" for part in ("train", "val", "trainval", "test"))


class Aircraft(SplitImages):
    """Variants of aircraft.

    Args:
        data_dir: holds ``fgvc-aircraft-2013b`` as it is published, unpacked or in its ``.tar.gz``; or FRN's
            ``Aircraft_fewshot/PART/NUMBER/*.png``, which are cut out and whose classes have no names.
        image_shape: ``(C, H, W)`` that images are brought to.
        crop: ``box`` cuts out the aircraft (as Meta-Dataset and FRN do); ``banner`` cuts off the 20 lowest pixels, whose text
            tells photographers and, through them, classes; ``none`` takes the whole photograph.
        split: of the classes; None takes Meta-Dataset's.
        allow_partial: accept fewer classes and images.
    """

    folder = "aircraft"
    other_folders = ("fgvc-aircraft-2013b", "Aircraft_fewshot")
    tars = ("fgvc-aircraft-2013b.tar.gz", "Aircraft_fewshot.tar")
    usual = "metadataset"
    forms = "fgvc-aircraft-2013b.tar.gz, or its folder data/"
    counted = "aircraft"

    def __init__(
        self,
        data_dir: str,
        image_shape: Sequence[int],
        crop: str = "box",
        split: str | None = None,
        allow_partial: bool = False,
    ) -> None:
        if crop not in CROPS:
            raise UserError(f"data.source.crop={crop} is unknown{suggest(str(crop), CROPS)}")
        super().__init__(data_dir, image_shape, split, allow_partial)
        self._crop = crop
        self.name = f"{self.name}-{crop}"

    def found(self) -> Iterable[PlacedImage]:
        if not any(self.has(name) for name in LISTS):
            numbered = list(in_class_folders(self.where, self.every, _numbered, joined=False))
            if numbered and (self.split, self._crop) != ("frn", "box"):
                raise UserError(
                    f"{self.where} holds FRN's aircraft, cut out and divided: set data.split.name=frn and "
                    f"data.source.crop=box, or put {self.forms} there"
                )
            if numbered:
                return numbered
        return self._in_lists()

    def _in_lists(self) -> Iterator[PlacedImage]:
        variants: dict[str, str] = {}
        for name in [name for name in LISTS if self.has(name)] or LISTS[:1]:
            for image, variant in self.lines(name, fields=2):
                if variants.setdefault(image, variant) != variant:
                    raise UserError(f"{name}: image {image} is a {variant} and a {variants[image]}; replace the file")
        boxes = self._boxes() if self._crop == "box" else {}
        for image, variant in variants.items():
            box: Box | None = (0, 0, None, -BANNER) if self._crop == "banner" else boxes.get(image)
            if box is None and self._crop == "box":
                raise UserError(
                    f"images_box.txt lists no box of image {image}; replace the file, or set data.source.crop=banner"
                )
            yield from self.image(f"images/{image}.jpg", variant, box)

    def _boxes(self) -> dict[str, Box]:
        """Of each image, as Meta-Dataset cuts it out."""
        boxes: dict[str, Box] = {}
        for image, *corners in self.lines("images_box.txt", fields=5):
            if not all(re.fullmatch(r"[0-9]{1,5}", corner) for corner in corners):
                raise UserError(f"images_box.txt: the box of image {image} is {' '.join(corners)[:80]}; replace the file")
            left, top, right, bottom = map(int, corners)
            boxes[image] = (left, top, right, bottom)
        return boxes


def _numbered(place: Place) -> str | None:
    part = split_folder(place.name.parent.parent.name)
    return f"{part} {int(place.folder):03d}" if part and NUMBERED.fullmatch(f"{place.folder}/{place.name.name}") else None
