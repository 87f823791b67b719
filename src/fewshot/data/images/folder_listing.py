"""Which images a user's folder holds, and what they show: by folders of classes, or by a csv file."""

import csv
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path, PurePosixPath

from fewshot.data.files.places import is_hidden, walked
from fewshot.data.source import SPLITS, require
from fewshot.errors import UserError
from fewshot.tasks.table import CLASS, ORIGINAL

SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
}
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What people call the parts of a split."""
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
NAMED = 5
"""Classes that a refusal names."""


@dataclass(frozen=True)
class Image:
    """An image that a folder holds.

    Attributes:
        label: its class.
        split: ``train``, ``val``, ``test``, or empty where the folder has no split.
        columns: whatever else a csv file says of it.
    """

    path: Path
    label: str
    split: str = ""
    columns: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def origin(self) -> str:
        """What to call it in an error."""
        return str(self.path)

    def read(self) -> bytes:
        """The image file."""
        return self.path.read_bytes()


@dataclass(frozen=True)
class Listing:
    """The images of a folder.

    Attributes:
        images: sorted by class and path.
        parts: ``train``, ``val``, ``test`` where these have classes of their own, else ``all``.
        files: that the listing itself was read from.
        skipped: files in folders of classes that are no images.
        missing: images that a csv file lists and that are not there.
    """

    images: list[Image]
    parts: tuple[str, ...]
    files: list[Path]
    skipped: int = 0
    missing: int = 0


def list_images(
    root: Path, csv_file: str | bool | None, columns: Columns, classes: Sequence[str] | None, allow_partial: bool
) -> Listing:
    """Looks for images.

    Args:
        root: holds a folder for each class, or images and a csv file; also in the only folder in it.
        csv_file: to go by, relative to `root`; None looks for one, False goes by folders.
        columns: the headers of ``file``, ``class`` and ``split`` in it; None looks for them.
        classes: that are kept; None keeps all.
        allow_partial: leave out images that are listed and missing.

    Raises:
        UserError: nothing is found, or what is found may mean several things.
    """
    inner = _descend(require(root))
    path = _find_csv(dict.fromkeys((root, inner)), csv_file, columns)
    by_folders, skipped = _by_folders(inner, strict=path is None)
    listed, missing = _by_csv(path, root, columns) if path else ([], [])
    if missing and not allow_partial:
        raise UserError(
            f"{path} lists {len(missing)} images that are not there (first: {missing[0]}); put them below {root}, or "
            "leave them out with data.allow_partial=true"
        )
    if path and csv_file is None and not _agree(by_folders, listed):
        raise UserError(
            f"{path} divides the images otherwise than the folders in {inner}; choose data.source.csv={path.name} or "
            "data.source.csv=false"
        )
    images = listed if path else by_folders
    if not images:
        raise UserError(
            f"paths.data_dir={root} holds no images to learn from; put a folder with images there for each class (or such "
            "folders in train/, val/ and test/), or images and a csv file with the columns file,class"
        )
    kept = [image for image in images if classes is None or image.label in classes]
    if unknown := set(classes or ()) - {image.label for image in kept}:
        raise UserError(f"data.source.classes={', '.join(sorted(unknown))} are no classes of {root}; choose from its classes")
    kept.sort(key=lambda image: (image.label, str(image.path)))
    return Listing(kept, _parts(root, kept), [path] if path else [], 0 if path else skipped, len(missing))


def _parts(root: Path, images: Iterable[Image]) -> tuple[str, ...]:
    """The parts that have classes of their own; one part of all images where each has the same."""
    of_split: dict[str, set[str]] = {}
    for image in images:
        of_split.setdefault(image.split, set()).add(image.label)
    pairs = [(one, other, of_split[one] & of_split[other]) for one, other in combinations(of_split, 2)]
    if len(of_split) == 1 or all(shared == of_split[one] == of_split[other] for one, other, shared in pairs):
        return ("all",)
    for one, other, shared in pairs:
        if shared:
            rest = f" and {len(shared) - NAMED} more" if len(shared) > NAMED else ""
            raise UserError(
                f"{root}: {one} and {other} share some classes ({', '.join(sorted(shared)[:NAMED])}{rest}) but not all; "
                "let the parts have the same classes, which are then joined, or none in common"
            )
    return tuple(split for split in SPLITS if split in of_split)


# Folders


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not is_hidden(path.name))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _folders(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_dir()]


def _descend(folder: Path) -> Path:
    """The folder itself, or the only one in it, as deep as there are folders in that."""
    inner = _folders(folder)
    if len(inner) != 1 or not _folders(inner[0]) or any(_is_image(path) for path in _visible(folder)):
        return folder
    return _descend(inner[0])


def _by_folders(root: Path, strict: bool) -> tuple[list[Image], int]:
    """The images in folders of classes, or in such folders of the parts of a split; and how many files are none.

    Args:
        strict: refuse folders that hold folders instead of images.
    """
    splits = {folder: SPLIT_NAMES.get(folder.name.lower(), "") for folder in _folders(root)}
    if not splits or not all(splits.values()):
        return _of_classes(root, "", strict)
    found, skipped = [], 0
    for folder, split in splits.items():
        images, others = _of_classes(folder, split, strict)
        found += images
        skipped += others
    return found, skipped


def _of_classes(parent: Path, split: str, strict: bool) -> tuple[list[Image], int]:
    found, skipped = [], 0
    for folder in _folders(parent):
        inside = [Path(entry.path) for entry in os.scandir(folder) if entry.is_file()]
        images = [path for path in inside if _is_image(path) and not path.name.startswith(".")]
        if strict and not images and (deeper := _folders(folder)):
            raise UserError(
                f"{folder} holds folders ({deeper[0].name}, ...) instead of images; set paths.data_dir to the folder of the "
                "classes, or give a csv file with the columns file,class"
            )
        found += [Image(path, folder.name, split) for path in images]
        skipped += len(inside) - len(images)
    return found, skipped


def _agree(by_folders: Iterable[Image], listed: Iterable[Image]) -> bool:
    """Whether a list divides the images of folders as these do, whatever the classes are called; one folder divides nothing."""
    folder_of = {image.path: image.label for image in by_folders}
    if len(set(folder_of.values())) < 2:
        return True
    pairs = {(folder_of.get(image.path), image.label) for image in listed}
    return len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs})


# csv files


def _find_csv(folders: Iterable[Path], csv_file: str | bool | None, columns: Columns) -> Path | None:
    """The csv file to go by, if there is one."""
    if csv_file is False:
        return None
    if isinstance(csv_file, str):
        places = [folder / csv_file for folder in folders]
        return next((path for path in places if path.is_file()), None) or require(places[0])
    found = [path for folder in folders for path in _visible(folder) if path.suffix.lower() == ".csv" and _fits(path, columns)]
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


def _by_csv(path: Path, root: Path, columns: Columns) -> tuple[list[Image], list[str]]:
    """The images that a csv file lists, and those of them that are not there."""
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
        taken = {
            "",
            CLASS,
            ORIGINAL,
            "folder",
            *(name for number, name in enumerate(_plain(header)) if number in roles.values()),
        }
        others = {number: name for number, name in enumerate(_plain(header)) if name not in taken}
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
                if _is_image(path):
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
    """Which columns of a csv file say the file, the class and the part."""
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
