"""Sentences as numbers without a vocabulary: words and their character n-grams, hashed.

A token's number depends on its letters alone, not on a split, a machine or a run: no vocabulary can know the test classes.
"""

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

PAD, WORD, FIRST = 0, 1, 2
"""Ids that are no n-gram: what fills a row up, and what a word begins with; the first that is one."""


def ngrams(word: str, shortest: int, longest: int) -> list[str]:
    """The character n-grams of a word with a space on both sides, as scikit-learn's analyzer ``char_wb`` has them."""
    padded = f" {word} "
    found = []
    for n in range(shortest, longest + 1):
        found += [padded[start : start + n] for start in range(max(1, len(padded) - n + 1))]
        if len(padded) <= n:  # a short word counts once
            break
    return found


@lru_cache(maxsize=2**17)
def bucket(token: str, buckets: int) -> int:
    """The id of a token, from `FIRST` to `buckets` (left out)."""
    digest = hashlib.blake2b(token.encode(), digest_size=8).digest()
    return FIRST + int.from_bytes(digest, "little") % (buckets - FIRST)


@lru_cache(maxsize=2**16)
def word_ids(word: str, shortest: int, longest: int, buckets: int) -> tuple[int, ...]:
    """`WORD`, then the ids of a word's n-grams."""
    return (WORD, *(bucket(token, buckets) for token in ngrams(word, shortest, longest)))


def sentence_ids(sentence: str, shortest: int, longest: int, buckets: int, length: int) -> tuple[npt.NDArray[np.int64], bool]:
    """The ids of a sentence in lower case, word by word, ``(length,)``; and whether it was cut, after the last whole word."""
    return row_of((word_ids(word, shortest, longest, buckets) for word in sentence.lower().split()), length)


def row_of(words: Iterable[Sequence[int]], length: int) -> tuple[npt.NDArray[np.int64], bool]:
    """The ids of words one after another, ``(length,)``; and whether they were cut, after the last whole word."""
    found: list[int] = []
    cut = False
    for ids in words:
        if len(found) + len(ids) > length:
            cut = True
            break
        found += ids
    row = np.full(length, PAD, dtype=np.int64)
    row[: len(found)] = found
    return row, cut
