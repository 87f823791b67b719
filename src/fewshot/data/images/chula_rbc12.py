"""Red blood cells in thalassemia blood smears: 12 shapes (Chula RBC-12, Naruenatthanaset et al. 2021)."""

from collections.abc import Iterator, Sequence

from fewshot.data.images.listed import PlacedImage, PublishedImages

NO_CLASS = "uncategorised"


class ChulaRBC12(PublishedImages):
    """Crops of single cells. Rows have a column ``source_image``: the smear picture that a cell was cut from.

    Cells of one picture share its light and stain. Who the blood is from is not published. Cells that the authors could not
    categorise are no class, and a source of their own.

    Args:
        data_dir: holds ``crops.csv`` (``file,class_name,source_image``) and the crops, directly or in ``chula_rbc12/``.
        image_shape: ``(C, H, W)`` that images are brought to.
        allow_partial: leave out images that are listed and not there.
        categorised: the twelve shapes; else the cells of none of them.
    """

    folder = "chula_rbc12"
    forms = "crops.csv and the crops"

    def __init__(
        self, data_dir: str, image_shape: Sequence[int], allow_partial: bool = False, categorised: bool = True
    ) -> None:
        super().__init__(data_dir, image_shape, allow_partial)
        self._categorised, self.name = categorised, self.folder if categorised else f"{self.folder}-{NO_CLASS}"

    def found(self) -> Iterator[PlacedImage]:
        for row in self.rows("crops.csv", ("file", "class_name", "source_image")):
            if (row["class_name"] != NO_CLASS) == self._categorised:
                yield from self.image(row["file"], row["class_name"], anywhere=False, source_image=row["source_image"])
