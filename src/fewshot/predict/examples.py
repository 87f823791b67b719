"""A support set and queries as files: folders of images, or csv files of sentences or of images."""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewshot.data.files.places import Place, is_hidden, walked
from fewshot.data.files.rows import read_rows
from fewshot.data.images.image_files import SUFFIXES
from fewshot.data.text.sentences import read_text
from fewshot.errors import UserError, check_text
from fewshot.predict.learner import FewShotLearner
from fewshot.predict.run_files import Run

log = logging.getLogger(__name__)

MOST = 2000
"""Examples that a learner adapts to: few-shot learners are for few."""
TEXT, FILE, LABEL = ("text", "sentence"), ("filename", "file", "path"), ("label", "class", "category", "intent")
"""Headers of a csv file."""


@dataclass(frozen=True)
class Example:
    """An input that a user has given.

    Attributes:
        item: a path of an image, or a sentence.
        where: its path, or the file and line of a sentence.
        label: its class; empty of a query.
    """

    item: Path | str
    where: str
    label: str = ""


def read_support(place: str, shots: int | None = None) -> tuple[list[Example], int]:
    """The examples of ``FOLDER/CLASS/*``, or of a csv file with columns such as ``text,label``; and how much was left out.

    Args:
        place: folder or csv file.
        shots: examples taken of each class, evenly spread over its list; None takes all.

    Raises:
        UserError: there are none, a class is empty, or there are too many.
    """
    path = Path(place).expanduser()
    found, skipped = (_of_csv(path, "support"), 0) if path.suffix.lower() == ".csv" else _of_folders(path)
    check_text("support:", (example.where for example in found))
    if shots is not None:
        found = _some(found, shots)
    if len(found) > MOST:
        raise UserError(f"support={place} has {len(found):,} examples, and a learner takes {MOST:,} at the most; set "
                        f"shots=N to take N of each class")  # fmt: skip
    if len({example.label for example in found}) < 2:
        raise UserError(f"support={place} has one class, {found[0].label}; put examples of two classes or more into it")
    return found, skipped


def read_queries(place: str) -> list[Example]:
    """The images of a folder, with those of the folders in it; an image; the rows of a csv file; or the lines of a .txt file.

    Raises:
        UserError: there are none.
    """
    path = Path(place).expanduser()
    if path.suffix.lower() == ".csv":
        return _of_csv(path, "query")
    if path.suffix.lower() == ".txt":
        lines = enumerate(_readable(path, "query", read_text).split("\n"), start=1)
        found = [Example(line, f"{path}:{number}") for number, line in lines if line.strip()]
    elif path.is_dir():
        files = [parent / name for parent, _, names in walked(path) for name in names if not is_hidden(name)]
        found = [Example(file, str(file)) for file in files if _is_image(file)]
        check_text("query:", (example.where for example in found))
        if found and len(files) > len(found):
            log.info(f"Queries: {len(files) - len(found):,} of {len(files):,} files of {path} are no images, and skipped")
    elif _is_image(path):
        return [Example(path, str(path))]
    else:
        what = "no image" if path.is_file() else "missing"
        raise UserError(f"query={place} is {what}; give a folder of images (unpack an archive), an image, or a csv or txt file")
    if not found:
        raise UserError(f"query={place} has nothing to classify; put JPEG or PNG files, or a sentence a line, into it")
    return found


def learn(learner: FewShotLearner, examples: list[Example]) -> None:
    """Fits a learner to a support set.

    Raises:
        UserError: an example cannot be read, is of another kind than the run's, or is in two classes.
    """
    check_kind(learner.predictor.run, examples, "support")
    rows = learner.rows([example.item for example in examples])
    seen: dict[bytes, Example] = {}
    for row, example in zip(rows, examples, strict=True):
        other = seen.setdefault(hashlib.sha256(row.numpy().tobytes()).digest(), example)
        if other.label != example.label:
            first, second = (f"{one.where} (class {one.label})" for one in (example, other))
            raise UserError(f"{first} and {second} are the same; keep one of them")
    learner.fit(rows, [example.label for example in examples])


def check_kind(run: Run, examples: list[Example], key: str) -> None:
    """Refuses sentences for a run on images, and the reverse.

    Raises:
        UserError: they are of the other kind.
    """
    sentences = isinstance(examples[0].item, str)
    if sentences and run.takes_images:
        raise UserError(f"{key} has sentences, and run={run.folder} was trained on images; give images, or a run on text")
    if not sentences and run.takes_sentences:
        raise UserError(
            f"{key} has images, and run={run.folder} was trained on sentences; give a csv file with the columns "
            f"{'text,label' if key == 'support' else 'text'}, or a run on images"
        )


def refuse_overwriting(written: Sequence[Path | None], places: Iterable[str | None], examples: Iterable[Example]) -> None:
    """Refuses to write over what a user has given.

    Args:
        written: files that a command writes.
        places: that it reads, as they are given.
        examples: found there.

    Raises:
        UserError: a file is both.
    """
    there = {path.name: path for path in written if path is not None and path.exists()}
    files = (example.item for example in examples if isinstance(example.item, Path))
    for path in (*(Path(place).expanduser() for place in places if place is not None), *files):
        if path.name in there and path.exists() and path.samefile(there[path.name]):
            raise UserError(f"{path} is given to be read, and would be written over; set out=FILE to another name")


def _of_folders(root: Path) -> tuple[list[Example], int]:
    if not root.is_dir():
        what = "no folder (unpack an archive)" if root.is_file() else "missing"
        raise UserError(f"support={root} is {what}; give a folder with a folder of images for each class, or a csv file")
    there = sorted(path for path in root.iterdir() if not is_hidden(path.name))
    folders = [path for path in there if path.is_dir()]
    if not folders:
        raise UserError(f"support={root} has no folders; put the examples of each class into a folder named like the class")
    found: list[Example] = []
    skipped = len(there) - len(folders)
    for folder in folders:
        inside = [path for path in sorted(folder.iterdir()) if not is_hidden(path.name)]
        images = [path for path in inside if _is_image(path)]
        if not images:
            raise UserError(f"support={root}: class {folder.name} has no images; put one into {folder}, or delete the folder")
        found += [Example(image, str(image), folder.name) for image in images]
        skipped += len(inside) - len(images)
    return found, skipped


def _of_csv(path: Path, key: str) -> list[Example]:
    rows = _readable(path, key, lambda place: read_rows(Place(place)))
    if not rows:
        raise UserError(f"{key}={path} has no rows; give a header and a row for each example")
    headers = list(rows[0][1])
    header = next((name for name in headers if name.lower() in TEXT + FILE), None)
    label = next((name for name in headers if name.lower() in LABEL), None)
    if header is None or (key == "support" and label is None):
        needed = "text,label (or filename,label)" if key == "support" else "text (or filename)"
        raise UserError(f"{key}={path} has the columns {','.join(headers)}; it needs {needed}")
    found = []
    for line, row in rows:
        for column in (header, label) if key == "support" else (header,):
            if column is not None and not row[column].strip():
                raise UserError(f"{key}={path}, line {line}: {column} is empty; fill it in, or take the line out")
        is_text = header.lower() in TEXT
        item = row[header] if is_text else path.parent / row[header]
        found.append(Example(item, f"{path}:{line}" if is_text else str(item), row[label].strip() if label else ""))
    return found


def _readable(path: Path, key: str, read: Any) -> Any:
    """A file's content, by a function that refuses what it cannot make sense of."""
    if not path.is_file():
        raise UserError(f"{key}={path} is missing; give a csv file, or a folder of images")
    try:
        return read(path)
    except OSError as error:
        raise UserError(f"{key}={path} cannot be read ({error.strerror}); let yourself read it") from error


def _some(found: list[Example], shots: int) -> list[Example]:
    kept: list[Example] = []
    for name in sorted({example.label for example in found}):
        of_class = [example for example in found if example.label == name]
        count = min(shots, len(of_class))
        kept += [of_class[i * len(of_class) // count] for i in range(count)]
    return kept


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()
