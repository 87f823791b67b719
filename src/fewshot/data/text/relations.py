"""Relations between two things that are marked in a sentence."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fewshot.data.source import SPLITS
from fewshot.data.text.sentences import Sentence, TextSource, found_in, read_json
from fewshot.errors import UserError, check_int
from fewshot.hashing import bucket, row_of, word_ids

log = logging.getLogger(__name__)

CORPORA = ("val_wiki", "val_nyt", "val_pubmed")
"""Files of the parts, train, val and test: Wikipedia, newspapers, medical abstracts."""
NAMES = "pid2name"
HEAD, TAIL = ("<h>", "</h>"), ("<t>", "</t>")
"""Around the two things that a relation is of; words of their own."""


class FewRel(TextSource):
    """FewRel (Han et al. 2018; Gao et al. 2019): 700 or 100 sentences of each relation, between a head and a tail.

    One corpus a part, so that what is learned in one language register is tested in another: train on Wikipedia, validate on
    newspapers, test on medical abstracts. Relations that an earlier corpus has are left out of the later one. The published
    training file, 64 relations of Wikipedia, is not needed.

    A word has, beside its n-grams, its distance to the head and to the tail, as the papers' networks have them: 0 within,
    negative before.

    Args:
        data_dir: holds `CORPORA` and `NAMES` as json files, directly or in ``fewrel/``.
        positions: distances are clipped to this, words; 0 leaves them out.
        rows: length, buckets and ngrams (`TextSource`).
    """

    name = "fewrel"
    group = "corpus"
    parts = SPLITS

    def __init__(self, data_dir: str, positions: int, length: int, buckets: int, ngrams: Sequence[int]) -> None:
        super().__init__(length, buckets, ngrams)
        check_int("data.source.positions", positions, least=0)
        self._data_dir, self._positions = data_dir, positions

    def files(self, part: str) -> list[Path]:
        return [found_in(self._data_dir, "fewrel", f"{name}.json") for name in (*CORPORA, NAMES)]

    def listed(self) -> list[Sentence]:
        *paths, names_path = self.files("all")
        names = read_json(names_path)
        found: list[Sentence] = []
        earlier: set[str] = set()
        for part, path in zip(SPLITS, paths, strict=True):
            relations = read_json(path)
            try:
                shared = sorted(earlier & relations.keys())
                for relation in relations.keys() - earlier:
                    label = f"{names[relation][0]} ({relation})" if relation in names else relation
                    found += [Sentence(_marked_text(one), label, path.stem, part) for one in relations[relation]]
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
                raise UserError(f"{path} is not as published ({error!r}); replace it") from error
            if shared:
                of = f"{len(shared)} of {len(relations)} relations of {path.name}"
                log.info(f"{self.name}: {of} left out, in an earlier corpus: {', '.join(shared)}")
            earlier |= relations.keys()
        return found

    def row(self, text: str) -> tuple[npt.NDArray[np.int64], bool]:
        words: list[str] = []
        places: dict[str, int] = {}
        for word in text.split():
            if word in HEAD + TAIL:
                places[word] = len(words)
            else:
                words.append(word.lower())
        if len(places) != len(HEAD + TAIL):
            raise UserError(
                f"{text[:80]!r} has no head and tail; put <h> and </h>, <t> and </t> around them, as words of their own"
            )
        return row_of((self._ids(word, place, places) for place, word in enumerate(words)), self._length)

    def _ids(self, word: str, place: int, places: dict[str, int]) -> tuple[int, ...]:
        ids = word_ids(word, *self._ngrams, self._buckets)
        if not self._positions:
            return ids
        distances = (min(place - places[first], 0) or max(place - places[last] + 1, 0) for first, last in (HEAD, TAIL))
        clipped = (max(-self._positions, min(self._positions, distance)) for distance in distances)
        # a space within, which no n-gram has
        return (*ids, *(bucket(f" {thing} {distance}", self._buckets) for thing, distance in zip("ht", clipped, strict=True)))


def _marked_text(row: dict[str, Any]) -> str:
    """A published row as a sentence with its head and tail, each where it is first, in marks."""
    marks: dict[int, list[str]] = {}
    for key, (first, last) in (("h", HEAD), ("t", TAIL)):
        (*places,) = row[key][2][0]
        marks.setdefault(places[-1] + 1, []).insert(0, last)
        marks.setdefault(places[0], []).append(first)
    tokens = [*row["tokens"], ""]
    return " ".join(word for place, token in enumerate(tokens) for word in (*marks.get(place, []), *token.split()))
