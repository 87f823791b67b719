"""Stanford Cars: 16,185 photographs of 196 models (Krause et al. 2013)."""

from collections.abc import Iterator, Sequence
from typing import Any

from fewshot.data.images.decode import Box
from fewshot.data.images.listed import PlacedImage
from fewshot.data.images.split_images import SplitImages
from fewshot.errors import UserError

ANNOTATIONS = ("cars_train_annos.mat", "cars_test_annos_withlabels.mat", "cars_annos.mat")
"""Of the two parts; of the older release, whose images are in one folder, of both."""
LISTS = ("train.csv", "val.csv", "test.csv")
"""As DN4 has them."""
MODELS = {str(number) for number in range(1, 197)}


class Cars(SplitImages):
    """Cars; classes are called by their numbers in the development kit, ``1`` to ``196``, as the split in circulation has them.

    Args:
        data_dir: holds ``cars_train/``, ``cars_test/``, ``cars_train_annos.mat`` and ``cars_test_annos_withlabels.mat``; or
            ``car_ims/`` and ``cars_annos.mat``; or ``images/`` and ``train.csv``, ``val.csv``, ``test.csv`` with
            ``filename,label``; directly or in ``cars/``.
        image_shape: ``(C, H, W)`` that images are brought to.
        crop: cut out the car, by its published box.
        split: of the classes; None takes DN4's.
        allow_partial: accept fewer classes and images.
    """

    version = 2
    folder = "cars"
    other_folders = ("stanford_cars",)
    tars = ("cars_train.tgz", "cars_test.tgz", "car_devkit.tgz", "car_ims.tgz")
    usual = "dn4"
    forms = (
        "cars_train/, cars_test/, cars_train_annos.mat and cars_test_annos_withlabels.mat, or car_ims/ and cars_annos.mat, or "
        "images/ and train.csv, val.csv, test.csv"
    )
    counted = "cars"

    def __init__(
        self,
        data_dir: str,
        image_shape: Sequence[int],
        crop: bool = False,
        split: str | None = None,
        allow_partial: bool = False,
    ) -> None:
        super().__init__(data_dir, image_shape, split, allow_partial)
        self._crop = crop
        self.name += "-box" * crop

    def found(self) -> Iterator[PlacedImage]:
        annotations = [name for name in ANNOTATIONS if self.has(name)]
        for name in annotations:
            yield from self._annotated(name)
        if annotations:
            return
        if self._crop:
            raise UserError(
                f"data.source.crop=true needs {' and '.join(ANNOTATIONS[:2])}, which are not there; set it to false"
            )
        for name in LISTS:
            for row in self.rows(name, ("filename", "label")):
                yield from self.image(row["filename"], self._known(name, row["label"]))

    def _annotated(self, name: str) -> Iterator[PlacedImage]:
        found, folder = self.mat(name).get("annotations"), name.partition("_annos")[0]
        rows: list[Any] = found if isinstance(found, list) else [found]
        for row in rows:
            try:
                left, top, right, bottom = (int(row[f"bbox_{corner}"].item()) for corner in ("x1", "y1", "x2", "y2"))
                number, image = str(int(row["class"].item())), str(row["fname" if "fname" in row else "relative_im_path"])
            except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
                raise UserError(
                    f"{name}: {str(row)[:80]} is no annotation with fname, class and a box ({error!r}); replace the file"
                ) from error
            box: Box | None = (left - 1, top - 1, right, bottom) if self._crop else None  # MATLAB counts from 1
            yield from self.image(f"{folder}/{image}", self._known(name, number), box, anywhere=False)

    def _known(self, name: str, label: str) -> str:
        number = label.strip().lstrip("0")
        if number not in MODELS:
            raise UserError(f"{name}: class {label[:80]} is none of 1 to {len(MODELS)}; replace the file")
        return number
