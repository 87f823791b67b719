"""Images that a csv file lists, with their classes, parts and further columns."""

import csv
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath

from fewshot.data.files.places import is_hidden, walked
from fewshot.data.images.image_files import SPLIT_NAMES, Image, is_image, visible
from fewshot.data.source import require
from fewshot.errors import UserError
from fewshot.tasks.table import CLASS, ORIGINAL

HEADERS = {
    "file": (
        *("file", "filename", "file_name", "filepath", "file_path", "path", "image", "image_path", "image_name", "image_file"),
        *("image_index", "image_id", "img", "img_path", "img_name"),
    ),
    "class": (
        *("class_name", "classname", "class", "label_name", "label", "labels", "category_name", "category", "target"),
        *("finding_labels", "species", "scientific_name", "diagnosis", "dx", "class_id", "label_id"),
    ),
    "split": ("split", "set", "subset", "partition"),
}
"""What people call the columns of a csv file, the likelier first; written in small letters with underscores."""
Columns = Mapping[str, str | bool | None]
"""The header of ``file``, ``class`` and ``split``; None looks for one, False takes none."""
RESERVED = ("", CLASS, ORIGINAL, "folder")
"""Columns that a csv file cannot add."""


def find_csv(folders: Iterable[Path], csv_file: str | bool | None, columns: Columns) -> Path | None:
    """The csv file to go by, if there is one.

    Raises:
        UserError: the one that is named is missing, or several would do.
    """
    if csv_file is False:
        return None
    if isinstance(csv_file, str):
        places = [folder / csv_file for folder in folders]
        return next((path for path in places if path.is_file()), None) or require(places[0])
    found = [path for folder in folders for path in visible(folder) if path.suffix.lower() == ".csv" and _fits(path, columns)]
    if len(found) > 1:
        raise UserError(f"{found[0]} and {found[1].name} both list images; choose one with data.source.csv={found[0].name}")
    return found[0] if found else None


def _fits(path: Path, columns: Columns) -> bool:
    try:
        with _opened(path) as (header, _):
            roles = _roles(header, columns)
    except UserError:
        return False
    return {"file", "class"} <= roles.keys()


def images_of_csv(path: Path, root: Path, columns: Columns) -> tuple[list[Image], list[str]]:
    """The images that a csv file lists, and the names of those that are not there.

    Raises:
        UserError: it cannot be read, lacks a column, or has a line that is no image and class.
    """
    places = _Places(path, root)
    found: list[Image] = []
    missing: list[str] = []
    lines: dict[Path, int] = {}
    with _opened(path) as (header, rows):
        roles = _roles(header, columns)
        for role in ("file", "class"):
            if role not in roles:
                raise UserError(
                    f"{path} has no column {role} (it has {', '.join(header)}); name it with data.source.{role}_column=NAME"
                )
        names = dict(enumerate(_plain(header)))
        taken = {*RESERVED, *(names[number] for number in roles.values())}
        others = {number: name for number, name in names.items() if name not in taken}
        for line, row in rows:
            cells = [cell.strip() for cell in row] + [""] * (len(header) - len(row))
            name, label = cells[roles["file"]].replace("\\", "/"), cells[roles["class"]]
            if not name or not label or "\0" in name:
                raise UserError(f"{path}, line {line}: '{name}' of class '{label}' is no image and class; mend the line")
            split = _split_of(cells[roles["split"]], path, line) if "split" in roles else ""
            place = places.find(name)
            if place is None:
                missing.append(name)
                continue
            if lines.setdefault(place, line) != line:
                raise UserError(f"{path}, lines {lines[place]} and {line} list the same image, {place}; leave one of them")
            found.append(Image(place, label, split, {column: cells[number] for number, column in others.items()}))
    return found, missing


@contextmanager
def _opened(path: Path) -> Iterator[tuple[list[str], Iterator[tuple[int, list[str]]]]]:
    """The header of a csv file, and its lines that are not empty with their numbers; separated by commas, semicolons or tabs.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            rows = csv.reader(file, delimiter=max(",;\t", key=first.count), skipinitialspace=True)
            header = [name.strip() for name in next(rows, [])]
            yield header, ((rows.line_num, row) for row in rows if any(cell.strip() for cell in row))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error}); save it as csv in UTF-8") from error


class _Places:
    """Finds the images that a csv file lists: by their path, else by their name anywhere below the folder."""

    def __init__(self, csv_file: Path, root: Path) -> None:
        self._folders = tuple(dict.fromkeys((csv_file.parent, root)))
        self._root = root

    def find(self, name: str) -> Path | None:
        for folder in self._folders:
            if (folder / name).is_file():
                return Path(os.path.normpath(folder / name))
        found = self._index.get(PurePosixPath(name).name, [])
        found = [path for path in found if path.as_posix().endswith(f"/{name}")] or found
        if len(found) > 1:
            raise UserError(f"{name} may be {found[0]} or {found[1]}; write its path")
        return found[0] if found else None

    @cached_property
    def _index(self) -> dict[str, list[Path]]:
        """Images by their name, with and without its suffix."""
        index: dict[str, list[Path]] = {}
        for parent, _, names in walked(self._root):
            for path in (parent / name for name in names if not is_hidden(name)):
                if is_image(path):
                    for key in (path.name, path.stem):
                        index.setdefault(key, []).append(path)
        return index


def _split_of(value: str, path: Path, line: int) -> str:
    if value.lower() not in SPLIT_NAMES:
        raise UserError(
            f"{path}, line {line}: '{value}' is no part of a split; write train, val or test, or set "
            "data.source.split_column=false"
        )
    return SPLIT_NAMES[value.lower()]


def _plain(header: Sequence[str]) -> list[str]:
    """Headers as columns are called: ``Patient ID`` is ``patient``, and ``patient_id`` where there are both."""
    names = [_words(name) for name in header]
    short = [name.removesuffix("_id") for name in names]
    return [one if short.count(one) == 1 else name for one, name in zip(short, names, strict=True)]


def _words(name: str) -> str:
    return re.sub(r"\W+", "_", name.strip().lower()).strip("_")


def _roles(header: Sequence[str], columns: Columns) -> dict[str, int]:
    """The numbers of the columns with the file, the class and the part, as far as there are such."""
    names = [_words(name) for name in header]
    roles = {}
    for role, synonyms in HEADERS.items():
        wanted = columns.get(role)
        if wanted is None:
            wanted = next((header[names.index(name)] for name in synonyms if name in names), False)
        if wanted is False:
            continue
        if wanted not in header:
            raise UserError(f"data.source.{role}_column={wanted} is no column; choose one of: {', '.join(header)}")
        roles[role] = header.index(str(wanted))
    return roles
