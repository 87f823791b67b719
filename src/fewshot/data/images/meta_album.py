"""Meta-Album: 40 datasets of images from ten domains, all in one form (Ullah et al. 2022)."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from fewshot.data.files.places import Place
from fewshot.data.files.rows import read_text
from fewshot.data.images.listed import PlacedImage, PublishedImages
from fewshot.errors import UserError, suggest

LABELS, INFO = "labels.csv", "info.json"
COLUMNS = {
    "image_column_name": "FILE_NAME",
    "category_column_name": "CATEGORY",
    "super_category_column_name": "SUPER_CATEGORY",
}
"""What ``info.json`` may rename, and the usual names."""


class MetaAlbum(PublishedImages):
    """Some of its datasets; classes are called ``DATASET CATEGORY`` and belong to the domain ``DATASET``.

    Rows have a column ``super_category``.

    Args:
        data_dir: holds a folder or zip archive for each dataset, with ``labels.csv``, perhaps ``info.json``, and the images
            beside them or in ``images/``; directly or in ``meta_album/``.
        image_shape: ``(C, H, W)`` that images are brought to.
        datasets: names of such folders, as in ``[BRD_Mini, PLK_Mini]``; None takes all.
        allow_partial: leave out images that are listed and not there.
    """

    folder = "meta_album"
    other_folders = ("meta-album", "MetaAlbum")
    group = "domain"
    forms = f"a folder or zip archive of each dataset, with {LABELS} and images"

    def __init__(
        self,
        data_dir: str,
        image_shape: Sequence[int],
        datasets: Sequence[str] | None = None,
        allow_partial: bool = False,
    ) -> None:
        super().__init__(data_dir, image_shape, allow_partial)
        self._datasets = None if datasets is None else sorted(set(datasets))
        self.name = "-".join(["meta_album", *(self._datasets or [])])

    def group_of(self, label: str) -> str:
        return label.split(" ")[0]

    def found(self) -> Iterator[PlacedImage]:
        albums = {_name(place): place for place in self.every if place.name.name == LABELS}
        unknown = sorted(set(self._datasets or ()) - set(albums))
        if unknown or not albums:
            what = f"data.source.datasets={unknown[0]} is none of those" if unknown else f"there is no folder with {LABELS}"
            raise UserError(f"{self.where}: {what}{suggest(unknown[0], albums) if unknown else '; put some there'}")
        there = {(place.path if place.member else None, place.name): place for place in self.every}
        for name in self._datasets or sorted(albums):
            yield from self._album(name, albums[name], there)

    def _album(self, name: str, labels: Place, there: dict[tuple[Path | None, PurePosixPath], Place]) -> Iterator[PlacedImage]:
        archive, folder = labels.path if labels.member else None, labels.name.parent
        info = there.get((archive, folder / INFO))
        file, category, super_category = _columns(info)
        self._read += [place for place in (labels, info) if place is not None]
        for row in _rows(labels, (file, category)):
            image = row[file]
            place = there.get((archive, folder / "images" / image)) or there.get((archive, folder / image))
            if place is None:
                self._missing.append(f"{name}/{image}")
            else:
                known = {"file": f"{name}/{image}", "super_category": row.get(super_category, "")}
                yield PlacedImage(place, f"{name} {row[category]}", known)


def _name(labels: Place) -> str:
    """Of a dataset: its folder's, or that of its archive."""
    return (labels.folder or labels.path.stem).replace(" ", "_")


def _columns(info: Place | None) -> list[str]:
    """The headers of file, category and super-category."""
    if info is None:
        return list(COLUMNS.values())
    try:
        content = json.loads(read_text(info))
        return [str(content.get(key, usual)) for key, usual in COLUMNS.items()]
    except (ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{info} is no JSON object ({error}); replace the file") from error


def _rows(labels: Place, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """The lines of a csv file, whose fields may be parted by tabs, and have spaces around them."""
    text = read_text(labels)
    header = text.splitlines()[0] if text else ""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in header else ",", strict=True)
    try:
        names = [field.strip() for field in next(reader, [])]
        if missing := [column for column in columns if column not in names]:
            raise UserError(f"{labels} has no column {missing[0]} (it has {', '.join(names)}); replace the file")
        for row in reader:
            if not row:
                continue
            fields = dict(zip(names, (field.strip() for field in row), strict=False))
            if len(row) != len(names) or not all(fields[column] for column in columns):
                raise UserError(
                    f"{labels}, line {reader.line_num}: {','.join(row)[:80]!r} is no image and class; replace the file"
                )
            yield fields
    except csv.Error as error:
        raise UserError(f"{labels}, line {reader.line_num}: {error}; is a quote never closed?") from error
