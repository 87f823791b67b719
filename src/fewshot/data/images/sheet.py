"""A picture of what a dataset holds: some classes of each part, some images of each class."""

import errno
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from fewshot.data.images.listed import ListedImages
from fewshot.data.source import ImageSource
from fewshot.errors import UserError
from fewshot.files import written_whole

CLASSES, IMAGES = 6, 8
"""Of each part, and of each class, at the most."""
NAME_LENGTH = 26
"""Letters of a name."""

Example = tuple[str, Sequence[npt.NDArray[np.uint8]]]
"""A class and images of it ``(C, H, W)``."""


def examples(source: ImageSource, part: str) -> list[Example]:
    """The first images of classes from all over a part; of a source that lists no images, of its first classes."""
    return list(_listed(source, part) if isinstance(source, ListedImages) else _read(source, part))


def _listed(source: ListedImages, part: str) -> Iterator[Example]:
    of_classes = [list(images) for _, images in groupby(source.listed(part), lambda image: image.label)]
    for number in np.unique(np.linspace(0, len(of_classes) - 1, min(CLASSES, len(of_classes))).astype(int)):
        images = of_classes[number][:IMAGES]
        yield images[0].label, [source.decoded(image) for image in images]


def _read(source: ImageSource, part: str) -> Iterator[Example]:
    for kind, images in islice(zip(source.classes(part), source.images(part), strict=False), CLASSES):
        yield kind.name, list(images[:IMAGES])


def require_writable(path: Path) -> None:
    """Refuses a place where no file can be written."""
    with _writing(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=path.absolute().parent):
            pass


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written here ({error.strerror}); run it in another folder") from error


def write_sheet(path: Path, title: str, parts: Mapping[str, Sequence[Example]]) -> None:
    """Writes a PNG with a row of images for each class."""
    rows = [(f"{part}: {name}", images) for part, of_part in parts.items() for name, images in of_part]
    figure = Figure(figsize=(1.1 * IMAGES + 2.4, 1.1 * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), IMAGES, squeeze=False)
    for (name, images), of_row in zip(rows, axes, strict=True):
        for number, cell in enumerate(of_row):
            cell.set_axis_off()
            if number < len(images):
                cell.imshow(images[number].transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=255)
        place = {"transform": of_row[0].transAxes, "ha": "right", "va": "center"}
        of_row[0].text(-0.1, 0.5, name[:NAME_LENGTH], fontsize=7, parse_math=False, **place)  # a class may be called $x$
    figure.suptitle(title, fontsize=8, parse_math=False)
    with _writing(path), warnings.catch_warnings(), written_whole(path) as file:
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # names in a script that the font lacks
        figure.savefig(file, format="png", dpi=100)
