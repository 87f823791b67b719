"""Sentences of hashed n-grams (`fewshot.hashing`) as vectors, and what networks for them share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot.backbones.backbone import Backbone
from fewshot.backbones.known_words import KnownWords
from fewshot.backbones.vector_file import read_vectors
from fewshot.errors import UserError, check_int
from fewshot.hashing import WORD

BLOCK = 64
"""Ids that are added up at a time."""
SPREAD = 5.0
"""Squared length of an n-gram's vector at the start: sentences without a shared one are at twice this squared distance."""


class WordVectors(nn.Module):
    """The vector of a word is the sum of its n-grams' vectors, or its own where it is known.

    Ids are added up in blocks of one size, each by the same matrix product, so that more filling gives the same bits.

    Args:
        buckets: ids that there are.
        width: of a vector.
        words: of a sentence, at the most; those beyond are left out.
        known: words with vectors of their own.

    Shapes:
        ids ``(B, L)`` -> ``(B, words, width)``, and the number of n-grams of each word ``(B, words)``, 1 of a known one
    """

    def __init__(self, buckets: int, width: int, words: int, known: KnownWords | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(buckets, width).normal_(std=(SPREAD / width) ** 0.5))
        self._words = words
        self.known = known

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        places = torch.arange(1, self._words + 1, device=ids.device)
        numbers = self._numbers(ids)
        members = numbers.unsqueeze(1) == places[:, None]
        if self.known is None:
            return self._added(ids, members)
        vectors, known = self.known(ids, numbers, self._words)
        total, counts = self._added(ids, members & ~known.unsqueeze(-1))
        return total + vectors, counts + known

    def of_sentence(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of all words' vectors ``(B, width)`` and the number of n-grams ``(B, 1)``, in a fraction of the time."""
        numbers = self._numbers(ids)
        if self.known is None:
            total, counts = self._added(ids, (numbers > 0).unsqueeze(1))
            return total.squeeze(1), counts
        vectors, known = self.known(ids, numbers, self._words)
        of_unknown = (numbers > 0) & ~F.pad(known, (1, 0)).gather(1, numbers)
        total, counts = self._added(ids, of_unknown.unsqueeze(1))
        return total.squeeze(1) + vectors.sum(dim=1), counts + known.sum(dim=1, keepdim=True)

    def _numbers(self, ids: Tensor) -> Tensor:
        """Of the word that an n-gram is in, from 1; 0 for what is no n-gram, or is in a word beyond the last."""
        numbers = (ids == WORD).cumsum(dim=1) * (ids > WORD)
        return numbers * (numbers <= self._words)

    def _added(self, ids: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of vectors ``(B, G, width)`` and their numbers ``(B, G)``, from which ids are in which group, ``(B, G, L)``."""
        filling = (0, -ids.shape[1] % BLOCK)
        vectors, members = F.embedding(F.pad(ids, filling), self.weight), F.pad(members.to(self.weight.dtype), filling)
        total = vectors.new_zeros(())
        for start in range(0, vectors.shape[1], BLOCK):
            total = total + members[:, :, start : start + BLOCK] @ vectors[:, start : start + BLOCK]
        return total, members.sum(dim=2)


class SentenceBackbone(Backbone):
    """A network from sentences to features.

    Args:
        image_shape: ``(L,)``, ids of a sentence.
        buckets: ids that there are; None of data that are no text.
        width: of a word's vector.
        words: of a sentence, at the most.
        vectors: a file with vectors of words (`read_vectors`), which stay as they are but for one factor, by which their mean
            squared length is an n-gram's; None has none.
        vocabulary: words that are taken from it, at the most.
        ngrams: letters of the shortest and of the longest n-gram that the data are made of, by which its words are found.
        positions: that the data tell beside a word's n-grams, by which it would not be.
        load: whether the file is read; False where a checkpoint brings the vectors.

    Raises:
        UserError: the data are no text, or the file is not what it should be.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        buckets: int | None,
        width: int = 128,
        words: int = 32,
        vectors: str | None = None,
        vocabulary: int = 50_000,
        ngrams: Sequence[int] | None = None,
        positions: int = 0,
        load: bool = True,
    ) -> None:
        super().__init__()
        for name, value in {"width": width, "words": words, "vocabulary": vocabulary}.items():
            check_int(f"model.backbone.{name}", value, least=1)
        self.input_shape, self.ids = tuple(image_shape), self.require_ids(image_shape, buckets, "sentences", "sentences")
        self.width = width
        known = None
        if vectors is not None:
            if ngrams is None:
                raise UserError(
                    "model.backbone.vectors needs the letters of the data's n-grams; set model.backbone.ngrams=[2,4]"
                )
            if positions:
                raise UserError(
                    f"model.backbone.vectors does not know words that have data.source.positions={positions} beside their "
                    "n-grams; set data.source.positions=0"
                )
            known, self.setting = KnownWords(self.ids, vocabulary, width), f"with vectors of {Path(vectors).name}"
            if load:
                found, rows = read_vectors(vectors, width, vocabulary)
                length = float((rows**2).sum(axis=1).mean())
                known.fill(found, rows * (SPREAD / max(length, 1e-12)) ** 0.5, ngrams)
        self.words = WordVectors(self.ids, width, words, known)


class EmbeddingBag(SentenceBackbone):
    """The sum of the vectors of all n-grams over the root of their number: similar sentences share n-grams.

    Shapes:
        ``(B, L)`` -> ``(B, width)``
    """

    def __init__(self, *sentences: Any, **options: Any) -> None:
        super().__init__(*sentences, **options)
        self.out_features = self.width

    def forward(self, ids: Tensor) -> Tensor:
        total, counts = self.words.of_sentence(ids)
        return total / counts.clamp(min=1).sqrt()


class WordConv(SentenceBackbone):
    """Convolutions over words, and the largest value of each channel over the sentence (Kim 2014).

    Args:
        filters: channels.
        span: words that a convolution sees, an odd number.
        sentences: what all networks for sentences take (`SentenceBackbone`).

    Shapes:
        ``(B, L)`` -> ``(B, filters)``
    """

    def __init__(self, filters: int = 256, span: int = 3, **sentences: Any) -> None:
        super().__init__(**sentences)
        check_int("model.backbone.filters", filters, least=1)
        if span % 2 == 0:
            raise UserError(f"model.backbone.span={span} must be odd, so that a word is in the middle")
        self.conv = nn.Linear(span * self.width, filters)
        self.relu = nn.ReLU()
        self._reach = span // 2
        self.out_features = filters

    def forward(self, ids: Tensor) -> Tensor:
        vectors, counts = self.words(ids)
        vectors = vectors / counts.unsqueeze(-1).clamp(min=1).sqrt()
        around = F.pad(vectors, (0, 0, self._reach, self._reach))
        windows = torch.cat([around[:, i : i + vectors.shape[1]] for i in range(2 * self._reach + 1)], dim=-1)
        channels = self.relu(self.conv(windows)) * (counts > 0).unsqueeze(-1)  # none is below 0, which is what no word has
        features: Tensor = channels.amax(dim=1)
        return features
