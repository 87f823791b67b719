"""FGVCx Fungi 2018: photographs of 1,394 mushrooms, as Meta-Dataset takes them (Schroeder & Cui 2018)."""

from collections.abc import Iterator
from typing import Any

from fewshot.data.images.listed import PlacedImage
from fewshot.data.images.split_images import SplitImages
from fewshot.errors import UserError

LISTS = ("train.json", "val.json")


class Fungi(SplitImages):
    """Mushrooms; classes are called ``NNNN.name``, as some names occur twice. Training and validation images are joined.

    Args:
        data_dir: holds ``train.json``, ``val.json`` and ``images/``, directly or in ``fungi/``.
        image_shape: ``(C, H, W)`` that images are brought to.
        split: of the classes; None takes Meta-Dataset's.
        allow_partial: accept fewer classes and images.
    """

    folder = "fungi"
    other_folders = ("fgvcx_fungi", "fungi_train_val")
    tars = ("fungi_train_val.tgz", "train_val_annotations.tgz")
    usual = "metadataset"
    forms = "fungi_train_val.tgz and train_val_annotations.tgz, or images/, train.json and val.json"
    counted = "fungi"

    def found(self) -> Iterator[PlacedImage]:
        for name in LISTS:
            try:
                listed = _labels(self.json(name))
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                raise UserError(f"{name} lists no images, annotations and categories ({error!r}); replace the file") from error
            for image, label in listed:
                yield from self.image(image, label, anywhere=False)


def _labels(content: Any) -> list[tuple[str, str]]:
    """File and class of each image."""
    names = {int(category["id"]): str(category["name"]) for category in content["categories"]}
    files = {image["id"]: str(image["file_name"]) for image in content["images"]}
    return [
        (files[annotation["image_id"]], f"{annotation['category_id']:04d}.{names[annotation['category_id']]}")
        for annotation in content["annotations"]
    ]
