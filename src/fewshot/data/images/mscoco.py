"""MSCOCO: things of 80 kinds, cut out of photographs as Meta-Dataset does (Lin et al. 2014; Triantafillou et al. 2020)."""

from collections.abc import Iterator
from typing import Any

from fewshot.data.images.decode import Box
from fewshot.data.images.listed import PlacedImage
from fewshot.data.images.split_images import SplitImages
from fewshot.errors import UserError

ANNOTATIONS = "instances_train2017.json"
AROUND = 0.1
"""Share of a box that is added on each side of it."""


class MSCOCO(SplitImages):
    """Things; there is no training part.

    Args:
        data_dir: holds ``instances_train2017.json`` and ``train2017/``, directly or in ``mscoco/``.
        image_shape: ``(C, H, W)`` that images are brought to.
        split: of the classes; None takes Meta-Dataset's.
        allow_partial: accept fewer classes and images.
    """

    folder = "mscoco"
    other_folders = ("coco",)
    usual = "metadataset"
    forms = f"{ANNOTATIONS} and train2017/"

    def found(self) -> Iterator[PlacedImage]:
        try:
            listed = _boxes(self.json(ANNOTATIONS))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise UserError(f"{ANNOTATIONS} lists no annotations and categories ({error!r}); replace the file") from error
        for number, (image, label, box) in enumerate(listed):
            yield from self.image(f"train2017/{image:012d}.jpg", label, box, anywhere=False, thing=str(number))


def _boxes(content: Any) -> list[tuple[int, str, Box]]:
    """Image, class and box of each thing; those whose box lies left of or above their image are left out."""
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    found: list[tuple[int, str, Box]] = []
    for annotation in content["annotations"]:
        x, y, width, height = (float(number) for number in annotation["bbox"])
        left, top = round(x - AROUND * width - 0.5), round(y - AROUND * height - 0.5)
        right = round(x + (1 + AROUND) * width - 0.5) + 1
        bottom = round(y + (1 + AROUND) * height - 0.5) + 1
        if max(left, 0) < right and max(top, 0) < bottom:
            found.append((int(annotation["image_id"]), names[annotation["category_id"]], (left, top, right, bottom)))
    return found
