"""ISIC 2018, task 3: dermatoscopic images of pigmented skin lesions in seven diagnoses (Codella et al. 2019; HAM10000)."""

from collections.abc import Iterator
from typing import Any

from fewshot.data.images.listed import PlacedImage, PublishedImages
from fewshot.errors import UserError

TRUTH, LESIONS = "ISIC2018_Task3_Training_GroundTruth.csv", "ISIC2018_Task3_Training_LesionGroupings.csv"
HAM10000 = "HAM10000_metadata.csv"
DIAGNOSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")


class ISIC2018(PublishedImages):
    """Images of the training set; a lesion has up to six, so that rows have a column ``lesion``.

    It is there with the challenge's groupings beside its ground truth, or with the metadata of HAM10000 (Tschandl et al. 2018),
    which are the same images.

    Args:
        data_dir: holds the images and ``ISIC2018_Task3_Training_GroundTruth.csv``, a column for each diagnosis, and perhaps
            ``ISIC2018_Task3_Training_LesionGroupings.csv``; or ``HAM10000_metadata.csv``; directly or in ``isic2018/``.
    """

    name = folder = counted = "isic2018"
    forms = f"{TRUTH} or {HAM10000}, and the images"

    def found(self) -> Iterator[PlacedImage]:
        if self.has(HAM10000):
            for row in self.rows(HAM10000, ("lesion_id", "image_id", "dx")):
                yield from self.image(f"{row['image_id']}.jpg", row["dx"].lower(), lesion=row["lesion_id"])
            return
        truth = self.rows(TRUTH, ("image", *DIAGNOSES))
        lesions = (
            {row["image"]: row["lesion_id"] for row in self.rows(LESIONS, ("image", "lesion_id"))} if self.has(LESIONS) else {}
        )
        for row in truth:
            marked = [name for name in DIAGNOSES if row[name] not in ("0", "0.0")]
            if len(marked) != 1 or (lesions and row["image"] not in lesions):
                what = "no lesion" if len(marked) == 1 else f"{len(marked)} diagnoses"
                raise UserError(f"{TRUTH}: {row['image']} has {what}; replace the file, and {LESIONS}")
            known: dict[str, Any] = {"lesion": lesions[row["image"]]} if lesions else {}
            yield from self.image(f"{row['image']}.jpg", marked[0].lower(), **known)
