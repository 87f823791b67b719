"""VGG Flowers 102: 8,189 photographs of 102 flowers (Nilsback & Zisserman 2008)."""

import re
from collections.abc import Iterator

import numpy as np

from fewshot.data.images.listed import PlacedImage
from fewshot.data.images.split_images import SplitImages
from fewshot.data.published import part_of_class
from fewshot.errors import UserError

LABELS = "imagelabels.mat"
NUMBERED = re.compile(r"image_\d{5}\.(?:jpg|JPG)")


class Flowers102(SplitImages):
    """Flowers; classes are called ``NNN.name``, as Meta-Dataset names them.

    ``setid.mat`` and the folders ``train``, ``valid`` and ``test`` of Udacity's form divide the images of each class, which is
    no few-shot split: they are joined.

    Args:
        data_dir: holds ``imagelabels.mat`` and ``jpg/image_NNNNN.jpg``, unpacked or in ``102flowers.tgz`` or a zip archive; or
            folders ``1`` to ``102`` of such images, below whatever folders; directly or in ``flowers102/``.
        image_shape: ``(C, H, W)`` that images are brought to.
        split: of the classes; None takes Meta-Dataset's.
        allow_partial: accept fewer classes and images.
    """

    folder = "flowers102"
    other_folders = ("flowers-102", "flowers")
    tars = ("102flowers.tgz",)
    usual = "metadataset"
    forms = "imagelabels.mat and 102flowers.tgz, or folders 1 to 102 with images"
    counted = "flowers102"

    def found(self) -> Iterator[PlacedImage]:
        names = {int(name.split(".")[0]): name for name in part_of_class(self.folder, self.usual)}
        if self.has(LABELS):
            labels = np.ravel(self.mat(LABELS).get("labels", []))
            for image, number in enumerate(labels.tolist() if labels.dtype.kind in "iu" else [], start=1):
                if number not in names:
                    raise UserError(
                        f"{LABELS}: image {image} has the label {number} instead of 1 to {len(names)}; replace the file"
                    )
                yield from self.image(f"jpg/image_{image:05d}.jpg", names[number])
            return
        folders = {str(number): name for number, name in names.items()}
        for key, place in self.places.items():
            if NUMBERED.fullmatch(place.name.name) and place.folder in folders:
                yield PlacedImage(place, folders[place.folder], {"file": key})
