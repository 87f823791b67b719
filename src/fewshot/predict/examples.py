"""A support set and queries as files: a folder of images for each class, or a csv file of sentences or images with labels."""

import csv
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from fewshot.data.images.folder_listing import SUFFIXES
from fewshot.errors import UserError

MOST = 2000
"""Examples that a learner adapts to: few-shot learners are for few."""
INPUT, LABEL = ("text", "sentence", "filename", "file", "path"), ("label", "class", "category", "intent")
"""Headers of a csv file."""


@dataclass
class Examples:
    """Inputs and their classes.

    Attributes:
        items: paths or sentences.
        labels: of each.
        skipped: files that are no images.
    """

    items: list[Path | str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    skipped: int = 0


def read_support(place: str, shots: int | None = None) -> Examples:
    """The examples of ``FOLDER/CLASS/*``, or of a csv file with columns such as ``text,label``.

    Args:
        place: folder or csv file.
        shots: examples taken of each class, evenly spread over its list; None takes all.

    Raises:
        UserError: there are none, a class is empty, there are too many, or two classes have the same image.
    """
    path = Path(place).expanduser()
    found = _of_csv(path, "support") if path.suffix.lower() == ".csv" else _of_folders(path)
    if shots is not None:
        found = _some(found, shots)
    if len(found.items) > MOST:
        raise UserError(f"support={place} has {len(found.items):,} examples, and a learner takes {MOST:,} at the most; set "
                        f"shots=N to take N of each class")  # fmt: skip
    names = sorted(set(found.labels))
    if len(names) < 2:
        raise UserError(f"support={place} has one class, {names[0]}; put examples of two classes or more into it")
    _refuse_copies(found)
    return found


def read_queries(place: str) -> list[Path | str]:
    """The images of a folder, with those of the folders in it; an image file; or the sentences (or images) of a csv file.

    Raises:
        UserError: there are none.
    """
    path = Path(place).expanduser()
    if path.suffix.lower() == ".csv":
        return _of_csv(path, "query").items
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"query={place} is missing; give a folder of images, an image, or a csv file")
    found: list[Path | str] = [file for file in sorted(path.rglob("*")) if _is_image(file)]
    if not found:
        raise UserError(f"query={place} has no images; put JPEG or PNG files into it")
    return found


def _of_folders(root: Path) -> Examples:
    if not root.is_dir():
        raise UserError(f"support={root} is missing; give a folder with a folder of images for each class, or a csv file")
    found = Examples()
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    if not folders:
        raise UserError(f"support={root} has no folders; put the examples of each class into a folder named like the class")
    for folder in folders:
        files = [file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith(".")]
        images = [file for file in files if _is_image(file)]
        if not images:
            raise UserError(f"support={root}: class {folder.name} has no images; put one into {folder}, or delete the folder")
        found.items += images
        found.labels += [folder.name] * len(images)
        found.skipped += len(files) - len(images)
    return found


def _of_csv(path: Path, key: str) -> Examples:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{key}={path} cannot be read ({error}); give a csv file in UTF-8") from error
    headers = [str(header) for header in (rows[0] if rows else {})]
    header = next((name for name in headers if name.lower() in INPUT), None)
    label = next((name for name in headers if name.lower() in LABEL), None)
    if header is None or (key == "support" and label is None):
        needed = "text,label (or filename,label)" if key == "support" else "text (or filename)"
        raise UserError(f"{key}={path} has the columns {','.join(headers) or 'none'}; it needs {needed}")
    items: list[Path | str] = [row[header] or "" for row in rows]
    if header.lower() not in ("text", "sentence"):
        items = [path.parent / str(item) for item in items]
    return Examples(items, [row[label] or "" for row in rows] if label else [])


def _some(found: Examples, shots: int) -> Examples:
    kept: list[int] = []
    for name in sorted(set(found.labels)):
        rows = [row for row, label in enumerate(found.labels) if label == name]
        count = min(shots, len(rows))
        kept += [rows[i * len(rows) // count] for i in range(count)]
    return Examples([found.items[row] for row in kept], [found.labels[row] for row in kept], found.skipped)


def _refuse_copies(found: Examples) -> None:
    """Refuses one image (or sentence) in two classes: one of the labels is wrong."""
    seen: dict[str, tuple[Path | str, str]] = {}
    for item, label in zip(found.items, found.labels, strict=True):
        try:
            content = item.read_bytes() if isinstance(item, Path) else item.encode()
        except OSError as error:
            raise UserError(f"{item} cannot be read ({error.strerror}); replace it or take it away") from error
        other, its_label = seen.setdefault(hashlib.sha256(content).hexdigest(), (item, label))
        if its_label != label:
            raise UserError(f"{item} (class {label}) and {other} (class {its_label}) are the same; keep one of them")


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
