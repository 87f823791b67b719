"""Which images a user's folder holds, and what they show: by folders of classes, or by a csv file."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from fewshot.data.images.csv_listing import Columns, find_csv, images_of_csv
from fewshot.data.images.image_files import SPLIT_NAMES, Image, is_image, visible
from fewshot.data.source import SPLITS, require
from fewshot.errors import UserError

NAMED = 5
"""Classes that a refusal names."""


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
    path = find_csv(dict.fromkeys((root, inner)), csv_file, columns)
    by_folders, skipped = _by_folders(inner, strict=path is None)
    listed, missing = images_of_csv(path, root, columns) if path else ([], [])
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


def _folders(folder: Path) -> list[Path]:
    return [path for path in visible(folder) if path.is_dir()]


def _descend(folder: Path) -> Path:
    """The folder itself, or the only one in it, as deep as there are folders in that."""
    inner = _folders(folder)
    if len(inner) != 1 or not _folders(inner[0]) or any(is_image(path) for path in visible(folder)):
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
        images = [path for path in inside if is_image(path) and not path.name.startswith(".")]
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
