"""Word vectors that others trained, from a file: GloVe's text, fastText's ``.vec``, or ``.npy`` with a list of words."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fewshot.errors import UserError
from fewshot.npy_file import map_array

Vectors = tuple[list[str], npt.NDArray[np.float32]]


def read_vectors(file: str, width: int, most: int) -> Vectors:
    """The first words of a file that are in lower case, as sentences are, and their vectors ``(words, width)``.

    Args:
        file: a word and its numbers a line, perhaps under a line with the numbers of words and numbers; or ``NAME.npy`` with a
            word a line in ``NAME.txt``.
        width: numbers of a vector.
        most: words, at the most. Files begin with the frequent ones.

    Raises:
        UserError: the file is missing or broken, or its vectors have another width.
    """
    path = Path(file).expanduser().absolute()
    files = (path, path.with_suffix(".txt")) if path.suffix == ".npy" else (path,)
    try:
        stamp = tuple((one.stat().st_size, one.stat().st_mtime_ns) for one in files)
    except OSError as error:
        raise UserError(
            f"model.backbone.vectors: {error.filename} cannot be read ({error.strerror}); set another file"
        ) from error
    return _read(path, width, most, stamp)


@lru_cache(maxsize=1)
def _read(path: Path, width: int, most: int, _stamp: tuple[tuple[int, int], ...]) -> Vectors:
    """A run builds its network several times, and reads the file once."""
    try:
        words, vectors = _of_array(path, width, most) if path.suffix == ".npy" else _of_text(path, width, most)
    except UnicodeDecodeError as error:
        raise UserError(
            f"model.backbone.vectors={path}: byte {error.start} of a block is no UTF-8; save it as UTF-8"
        ) from error
    if not words:
        raise UserError(f"model.backbone.vectors={path} holds no word in lower case; set another file")
    if not np.isfinite(vectors).all():
        word = words[int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])]
        raise UserError(f"model.backbone.vectors={path}: the vector of {word!r} is not finite; take it out")
    return words, vectors


def _of_text(path: Path, width: int, most: int) -> Vectors:
    lines: dict[str, int] = {}
    vectors: list[npt.NDArray[np.float32]] = []
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            word, *numbers = line.rstrip(" \r\n").split(" ")
            if number == 1 and len(numbers) == 1 and word.isdigit():  # fastText's first line
                continue
            if len(numbers) > width and not _is_number(numbers[0]):
                continue  # spaces are within the word: no sentence has it
            if len(numbers) != width or not all(map(_is_number, numbers)):
                remedy = f"set model.backbone.width={len(numbers)}" if not vectors else "the file is not whole"
                raise UserError(
                    f"model.backbone.vectors={path}, line {number}: not a word and model.backbone.width={width} numbers, but "
                    f"{len(numbers)} fields after {word[:40]!r}; {remedy}"
                )
            if word in lines:
                raise UserError(
                    f"model.backbone.vectors={path}: {word!r} is in line {lines[word]} and in line {number}; take one out"
                )
            if word == word.lower():
                lines[word] = number
                vectors.append(_single(numbers))
            if len(lines) == most:
                break
    return list(lines), np.stack(vectors) if vectors else np.zeros((0, width), np.float32)


def _single(numbers: Any) -> npt.NDArray[np.float32]:
    """In single precision, where a number that is too large is infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(numbers, dtype=np.float32)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _of_array(path: Path, width: int, most: int) -> Vectors:
    try:
        array = map_array(path)
    except UserError as error:
        raise UserError(f"model.backbone.vectors: {error}") from error
    words = path.with_suffix(".txt").read_text("utf-8").splitlines()
    if array.dtype.kind != "f" or array.ndim != 2 or len(array) != len(words):
        raise UserError(
            f"model.backbone.vectors={path} is {array.dtype} of shape {list(array.shape)}, and {path.stem}.txt has "
            f"{len(words)} lines; give a row of real numbers for each line"
        )
    if array.shape[1] != width:
        raise UserError(f"model.backbone.vectors={path} has {array.shape[1]} numbers a word; set model.backbone.width to that")
    if len(set(words)) != len(words):
        twice = next(word for word in words if words.count(word) > 1)
        raise UserError(f"model.backbone.vectors={path}: {twice!r} is twice in {path.stem}.txt; take one out")
    rows = [row for row, word in enumerate(words) if word == word.lower()][:most]
    return [words[row] for row in rows], _single(array[rows])
