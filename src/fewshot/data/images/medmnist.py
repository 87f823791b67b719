"""MedMNIST: small medical images of many kinds (Yang et al. 2023), each dataset a domain."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fewshot.data.catalogue import lacking
from fewshot.data.files.arrays import read_array
from fewshot.data.files.places import Place, own_folder
from fewshot.data.images.decode import MODES
from fewshot.data.source import SPLITS, ImageClass, ImageSource
from fewshot.errors import UserError


class MedMNIST(ImageSource):
    """Some of its datasets; classes are called ``DATASET NUMBER`` and belong to the domain ``DATASET``.

    The published parts of each hold the same classes and are joined; rows have a column ``published``, the part that they are
    from. Who an image is of is not published.

    Args:
        data_dir: holds ``DATASET.npz`` (arrays ``train_images``, ``train_labels``, and so on), directly or in ``medmnist/``.
        datasets: their names, as in ``[pathmnist, bloodmnist]``.
        image_shape: ``(C, H, W)`` that images are brought to.
    """

    version = 1
    parts = ("all",)
    group = "domain"

    def __init__(self, data_dir: str, datasets: Sequence[str], image_shape: Sequence[int]) -> None:
        channels, height, width = image_shape
        if channels not in MODES:
            raise UserError(f"data.image_shape={list(image_shape)} must have 1 channel, grey, or 3, colour")
        if not datasets:
            raise UserError("data.source.datasets=[] names no dataset; give some, as in [pathmnist,bloodmnist]")
        self.image_shape = (channels, height, width)
        self._folder, self._datasets = own_folder(data_dir, "medmnist"), sorted(set(datasets))
        self.name = "-".join(["medmnist", *(dataset.removesuffix("mnist") for dataset in self._datasets)])

    def files(self, part: str) -> list[Path]:
        paths = [self._folder / f"{dataset}.npz" for dataset in self._datasets]
        if missing := next((path for path in paths if not path.is_file()), None):
            raise lacking(f"{missing} is missing; put it there or set paths.data_dir=FOLDER", "medmnist")
        return paths

    def classes(self, part: str) -> list[ImageClass]:
        return [ImageClass(name, name.split()[0], len(rows)) for name, rows in self._rows.items()]

    def columns(self, part: str) -> dict[str, Sequence[str]]:
        parts = {dataset: self._published(dataset) for dataset in self._datasets}
        return {"published": [parts[name.split()[0]][row] for name, rows in self._rows.items() for row in rows]}

    def images(self, split: str) -> Iterator[npt.NDArray[np.uint8]]:
        for dataset, path in zip(self._datasets, self.files(split), strict=True):
            parts = [read_array(Place(path), f"{part}_images") for part in SPLITS]
            for images, labels in zip(parts, self._labels[dataset], strict=True):
                if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[1:] != parts[0].shape[1:]:
                    raise UserError(
                        f"{path}: images are {images.dtype} {images.shape}; choose datasets of flat images of uint8"
                    )
                if len(images) != len(labels):
                    raise UserError(f"{path}: {len(images)} images have {len(labels)} labels; download the file again")
            images = np.concatenate(parts)
            for name, rows in self._rows.items():
                if name.split()[0] == dataset:
                    yield np.stack([self.encode(image) for image in images[rows]])

    @cached_property
    def _labels(self) -> dict[str, list[npt.NDArray[np.int64]]]:
        """Of each dataset, the labels of its parts."""
        found = {}
        for dataset, path in zip(self._datasets, self.files("all"), strict=True):
            labels = [read_array(Place(path), f"{part}_labels") for part in SPLITS]
            if any(of_part.ndim != 2 or of_part.shape[1] != 1 or of_part.dtype.kind not in "iu" for of_part in labels):
                raise UserError(f"{path}: images have several labels, or none; choose datasets with one")
            found[dataset] = [of_part[:, 0].astype(np.int64) for of_part in labels]
        return found

    @cached_property
    def _rows(self) -> dict[str, npt.NDArray[np.int64]]:
        """Of each class, its rows through the parts of its dataset."""
        of_datasets = {dataset: np.concatenate(labels) for dataset, labels in self._labels.items()}
        return {
            f"{dataset} {label:02d}": np.flatnonzero(labels == label)
            for dataset, labels in of_datasets.items()
            for label in np.unique(labels).tolist()
        }

    def _published(self, dataset: str) -> list[str]:
        return [part for part, labels in zip(SPLITS, self._labels[dataset], strict=True) for _ in labels]
