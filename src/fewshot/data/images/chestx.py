"""ChestX-ray14: frontal X-rays of the chest (Wang et al. 2017), the seven findings of BSCD-FSL (Guo et al. 2020)."""

from collections.abc import Iterator

from fewshot.data.images.listed import PlacedImage, PublishedImages

FINDINGS = {"Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumothorax"}


class ChestX(PublishedImages):
    """Images with a single finding, one of seven. Rows have a column ``patient``: most patients have several images.

    Args:
        data_dir: holds ``Data_Entry_2017.csv`` and the images in any folders, directly or in ``chestx/``.
    """

    name = folder = "chestx"
    forms = "Data_Entry_2017.csv and the images"

    def found(self) -> Iterator[PlacedImage]:
        for row in self.rows("Data_Entry_2017.csv", ("Image Index", "Finding Labels", "Patient ID")):
            if row["Finding Labels"] in FINDINGS:  # several are joined by bars
                yield from self.image(row["Image Index"], row["Finding Labels"], patient=row["Patient ID"])
