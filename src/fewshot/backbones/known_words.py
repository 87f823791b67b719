"""Words whose vectors are rows of a table; a sentence's row says the n-grams of a word, by which it is found."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot.hashing import word_ids

CODES = 2**40
"""Codes are below this: sums over a row stay far from the largest integer, and two words hardly ever have the same."""
NOBODY = torch.iinfo(torch.int64).max
"""The key of a row without a word."""


class KnownWords(nn.Module):
    """A table that nothing trains. A word's key is the sum of its n-grams' codes, which are random numbers.

    It is made of parameters rather than of buffers, which an inner loop copies at each step.

    Args:
        buckets: ids that there are.
        rows: words, at the most.
        width: of a vector.

    Shapes:
        ids ``(B, L)``, the number of the word that each is in ``(B, L)``, from 1, 0 for none ->
        vectors ``(B, words, width)``, 0 for words that are not known, and whether they are ``(B, words)``
    """

    def __init__(self, buckets: int, rows: int, width: int) -> None:
        super().__init__()
        codes = torch.randint(1, CODES, (buckets,), generator=torch.Generator().manual_seed(0))
        self.codes = nn.Parameter(codes, requires_grad=False)
        self.keys = nn.Parameter(torch.full((rows,), NOBODY), requires_grad=False)
        self.vectors = nn.Parameter(torch.zeros(rows, width), requires_grad=False)

    def fill(self, words: Sequence[str], vectors: npt.NDArray[np.float32], ngrams: Sequence[int]) -> None:
        """Takes words and their vectors ``(words, width)``.

        Args:
            words: that are different.
            vectors: of these.
            ngrams: letters of the shortest and of the longest n-gram that sentences are made of.
        """
        ids = [word_ids(word, *ngrams, len(self.codes))[1:] for word in words]
        starts = np.cumsum([0, *map(len, ids[:-1])])
        sums = np.add.reduceat(self.codes.numpy()[np.concatenate(ids)], starts)
        keys, first = np.unique(sums, return_index=True)
        self.keys[: len(keys)] = torch.from_numpy(keys)
        self.vectors[: len(keys)] = torch.from_numpy(vectors[first])

    def forward(self, ids: Tensor, numbers: Tensor, words: int) -> tuple[Tensor, Tensor]:
        keys = self.codes.new_zeros(len(ids), words + 1).scatter_add(1, numbers, self.codes[ids])
        rows = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)[:, 1:]  # the first is of no word
        known = self.keys[rows] == keys[:, 1:]
        return F.embedding(rows, self.vectors) * known.unsqueeze(-1), known
