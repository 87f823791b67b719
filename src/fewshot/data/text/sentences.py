"""Sentences in classes: what all sources of text share, and a user's own file."""

import json
import logging
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fewshot.data.catalogue import lacking
from fewshot.data.files.places import Place, own_folder
from fewshot.data.files.rows import read_rows
from fewshot.data.source import SPLITS, ArraySpec, ImageClass, Source
from fewshot.errors import UserError, check_int, suggest
from fewshot.hashing import FIRST, sentence_ids

log = logging.getLogger(__name__)

TEXT = "text"
"""The column of the sentences themselves."""
KEYS = ("text", "class", "group", "split")
"""Columns of a user's own file; the last two may be missing."""
HALF = re.compile("[\ud800-\udfff]")
"""A surrogate, which JSON can say and UTF-8 cannot."""


@dataclass(frozen=True)
class Sentence:
    """One row: the sentence, its class, what it belongs to (a domain), and the part it is published in, or ``all``."""

    text: str
    label: str
    group: str = ""
    part: str = "all"


class TextSource(Source):
    """Sentences in classes, as rows of hashed n-grams (`fewshot.hashing`).

    Empty sentences, and those that a class has already, are left out and counted; long ones are cut, and counted.

    Args:
        length: ids of a row; shorter sentences are filled up.
        buckets: ids that there are.
        ngrams: letters of the shortest and of the longest n-gram.
    """

    version = 1

    def __init__(self, length: int, buckets: int, ngrams: Sequence[int]) -> None:
        check_int("data.image_shape[0]", length, least=1)
        check_int("data.buckets", buckets, least=FIRST + 1)
        if len(ngrams) != 2 or not 1 <= ngrams[0] <= ngrams[1]:
            raise UserError(f"data.source.ngrams={list(ngrams)} must be the letters of the shortest and of the longest n-gram")
        self._length, self._buckets, self._ngrams = length, buckets, (ngrams[0], ngrams[1])

    @property
    def x(self) -> ArraySpec:  # type: ignore[override]
        return ArraySpec((self._length,), "int64")

    @property
    def parts(self) -> tuple[str, ...]:  # type: ignore[override]
        found = {sentence.part for sentence in self._sentences}
        return tuple(part for part in (*SPLITS, "all") if part in found)

    @abstractmethod
    def listed(self) -> list[Sentence]:
        """All sentences, in any order.

        Raises:
            UserError: a file is missing, or not what it should be.
        """

    def classes(self, part: str) -> list[ImageClass]:
        found = self._of(part)
        sizes = Counter(sentence.label for sentence in found)
        groups = {sentence.label: sentence.group for sentence in found}
        return [ImageClass(label, groups[label], sizes[label]) for label in sorted(sizes)]

    def columns(self, part: str) -> dict[str, Sequence[str]]:
        return {TEXT: [sentence.text for sentence in self._of(part)]}

    def encode(self, item: Any) -> npt.NDArray[Any]:
        """The row of a sentence that a user gives, ``(length,)``.

        Raises:
            UserError: it is no sentence.
        """
        if not isinstance(item, str) or not item.strip():
            raise UserError(f"{item!r} is no sentence; give a text that is not empty")
        return self.row(item)[0]

    def row(self, text: str) -> tuple[npt.NDArray[np.int64], bool]:
        """The ids of a sentence, ``(length,)``, and whether it was cut."""
        return sentence_ids(text, *self._ngrams, self._buckets, self._length)

    def read(self, part: str) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any] | None]]:
        long, sentences = 0, self._of(part)
        for _, of_class in groupby(sentences, lambda sentence: sentence.label):
            rows = [self.row(s.text) for s in of_class]
            long += sum(cut for _, cut in rows)
            yield np.stack([ids for ids, _ in rows]), None
        if long:
            of = f"{long:,} of {len(sentences):,} sentences"
            log.info(f"{self.name}: {of} cut, which have more than data.image_shape=[{self._length}] ids")

    def _of(self, part: str) -> list[Sentence]:
        return [sentence for sentence in self._sentences if sentence.part == part]

    @cached_property
    def _sentences(self) -> list[Sentence]:
        """Those that are kept, sorted by class."""
        every = self.listed()
        if half := next((s.text for s in every if HALF.search(s.text + s.label)), None):
            raise UserError(f"{self.name}: {half!r} holds half a character; write it whole, or take it out")
        listed = [s for s in every if s.text.strip()]
        kept = list({(s.text.strip().lower(), s.label, s.part): s for s in listed}.values())
        if not kept:
            raise UserError(f"{self.name}: there is no sentence; see data.source")
        for what, count in (("empty", len(every) - len(listed)), ("twice in a class", len(listed) - len(kept))):
            if count:
                log.info(f"{self.name}: {count:,} of {len(every):,} sentences left out, {what}")
        return sorted(kept, key=lambda s: s.label)


class Sentences(TextSource):
    """A user's own sentences: a csv file with a header, or a file of JSON objects, one a line.

    Columns ``text`` and ``class``; perhaps ``group``, which tasks can keep apart or be drawn within, and ``split``, which is
    train, val or test.

    Args:
        file: ends in ``.csv`` or ``.jsonl``.
        rows: length, buckets and ngrams (`TextSource`).
    """

    version = 2
    group = "file"

    def __init__(self, file: str, length: int, buckets: int, ngrams: Sequence[int]) -> None:
        super().__init__(length, buckets, ngrams)
        self._path = Path(file).absolute()
        self.name = "sentences-" + re.sub(r"\W+", "_", self._path.stem)

    def files(self, part: str) -> list[Path]:
        return [self._existing()]

    def _existing(self) -> Path:
        if not self._path.is_file():
            raise UserError(f"data.source.file={self._path} is missing; put it there, or set another")
        return self._path

    def columns(self, part: str) -> dict[str, Sequence[str]]:
        groups = [sentence.group for sentence in self._of(part)]
        return super().columns(part) | ({"group": groups} if any(groups) else {})

    def classes(self, part: str) -> list[ImageClass]:
        return [ImageClass(c.name, self._path.name, c.size) for c in super().classes(part)]

    def listed(self) -> list[Sentence]:
        rows: Sequence[tuple[int, dict[str, Any]]]
        kind = self._path.suffix.lower()
        if kind not in (".csv", ".jsonl"):
            raise UserError(f"data.source.file={self._path} ends neither in .csv nor in .jsonl; call it by what it holds")
        rows = read_rows(Place(self._existing())) if kind == ".csv" else read_jsonl(self._existing())
        for key in KEYS[:2]:
            if rows and key not in rows[0][1]:
                raise UserError(
                    f"{self._path}: there is no column {key}{suggest(key, rows[0][1])}; rename the one that is meant"
                )
        split = any("split" in row for _, row in rows)
        found = []
        for line, row in rows:
            if wrong := [key for key in KEYS if isinstance(row.get(key), list | dict)]:
                raise UserError(f"{self._path}, line {line}: {wrong[0]} is {row[wrong[0]]!r}; give a text")
            text, label, group, part = ("" if row.get(key) is None else str(row[key]).strip() for key in KEYS)
            if split and part not in SPLITS:
                raise UserError(f"{self._path}, line {line}: split is {part!r}; it must be one of: {', '.join(SPLITS)}")
            if not label:
                raise UserError(f"{self._path}, line {line}: there is no class; give one, or take the line out")
            found.append(Sentence(text, label, group, part if split else "all"))
        return found


def found_in(data_dir: str, folder: str, name: str) -> Path:
    """A file of a dataset, in its own folder in `data_dir` or directly there.

    Raises:
        UserError: it is missing.
    """
    path = own_folder(data_dir, folder) / name
    if not path.is_file():
        there = Path(data_dir).absolute() / folder / name
        raise lacking(f"{there} is missing; put it there or set paths.data_dir=FOLDER", folder)
    return path


def read_text(path: Path) -> str:
    """A file's text.

    Raises:
        UserError: it is no UTF-8.
    """
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is no UTF-8; save the file as UTF-8") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UserError: it is none.
    """
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON ({error}); replace it") from error


def read_jsonl(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The objects of a file, one a line, each with its number of line.

    Raises:
        UserError: a line is none.
    """
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}, line {number} is no JSON ({error}); give an object a line") from error
            if not isinstance(row, dict):
                raise UserError(f'{path}, line {number} is no object; give one as {{"text": ..., "class": ...}}')
            rows.append((number, row))
    return rows
