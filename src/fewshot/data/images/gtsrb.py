"""GTSRB: 39,209 photographs of 43 German traffic signs (Stallkamp et al. 2012)."""

import re
from collections.abc import Iterator

from fewshot.data.images.image_files import SUFFIXES
from fewshot.data.images.listed import PlacedImage, PublishedImages
from fewshot.data.published import part_of_class

NUMBERED = re.compile(r"(?:\d{5}_)?(\d{5})_\d{5}")
"""Track and image, as they are published; behind the class, as Kaggle has them."""


class GTSRB(PublishedImages):
    """Signs of the training set, whose labels are published; classes are called ``NN.name``, as Meta-Dataset names them.

    Rows have a column ``track``: some 30 images are of one sign that the car drives towards, and look alike.

    Args:
        data_dir: holds folders ``00000`` to ``00042`` (or ``0`` to ``42``) of images, below whatever folders, unpacked or in
            zip archives, directly or in ``gtsrb/``.
    """

    name = folder = "gtsrb"
    other_folders = ("GTSRB",)
    forms = "GTSRB_Final_Training_Images.zip, or its folders 00000 to 00042"
    counted = "gtsrb"

    def found(self) -> Iterator[PlacedImage]:
        signs = {name[:2]: name for name in part_of_class("traffic_sign", "metadataset")}
        for key, place in self.places.items():
            numbered = NUMBERED.fullmatch(place.name.stem)
            label = signs.get(place.folder.removeprefix("000").zfill(2))
            if numbered and label and place.name.suffix.lower() in SUFFIXES:
                yield PlacedImage(place, label, {"file": key, "track": f"{label[:2]}_{numbered[1]}"})
