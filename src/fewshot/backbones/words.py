"""Sentences of hashed n-grams (`fewshot.data.text.hashing`) as vectors, and what networks for them share."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot.backbones.backbone import Backbone
from fewshot.errors import UserError, check_int

WORD = 1
"""The id that a word begins with; those above are n-grams, and 0 fills up."""
BLOCK = 64
"""Ids that are added up at a time."""
SPREAD = 5.0
"""Squared length of an n-gram's vector at the start: sentences without a shared one are at twice this squared distance."""


class WordVectors(nn.Module):
    """The vector of a word is the sum of its n-grams' vectors.

    Ids are added up in blocks of one size, each by the same matrix product, so that more filling gives the same bits.

    Args:
        buckets: ids that there are.
        width: of a vector.
        words: of a sentence, at the most; those beyond are left out.

    Shapes:
        ids ``(B, L)`` -> ``(B, words, width)``, and the number of n-grams of each word ``(B, words)``
    """

    def __init__(self, buckets: int, width: int, words: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(buckets, width).normal_(std=(SPREAD / width) ** 0.5))
        self._words = words

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        places = torch.arange(1, self._words + 1, device=ids.device)
        return self._added(ids, self._numbers(ids).unsqueeze(1) == places[:, None])

    def of_sentence(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of all words' vectors ``(B, width)`` and the number of n-grams ``(B, 1)``, in a fraction of the time."""
        numbers = self._numbers(ids)
        total, counts = self._added(ids, ((numbers > 0) & (numbers <= self._words)).unsqueeze(1))
        return total.squeeze(1), counts

    @staticmethod
    def _numbers(ids: Tensor) -> Tensor:
        """Of the word that an n-gram is in, from 1; 0 for what is no n-gram."""
        return (ids == WORD).cumsum(dim=1) * (ids > WORD)

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

    Raises:
        UserError: the data are no text.
    """

    def __init__(self, image_shape: Sequence[int], buckets: int | None, width: int, words: int) -> None:
        super().__init__()
        for name, value in {"width": width, "words": words}.items():
            check_int(f"model.backbone.{name}", value, least=1)
        self.input_shape, self.ids = tuple(image_shape), self.require_ids(image_shape, buckets, "sentences", "sentences")
        self.words = WordVectors(self.ids, width, words)


class EmbeddingBag(SentenceBackbone):
    """The sum of the vectors of all n-grams over the root of their number: similar sentences share n-grams.

    Shapes:
        ``(B, L)`` -> ``(B, width)``
    """

    def __init__(self, image_shape: Sequence[int], buckets: int | None, width: int = 128, words: int = 32) -> None:
        super().__init__(image_shape, buckets, width, words)
        self.out_features = width

    def forward(self, ids: Tensor) -> Tensor:
        total, counts = self.words.of_sentence(ids)
        return total / counts.clamp(min=1).sqrt()


class WordConv(SentenceBackbone):
    """Convolutions over words, and the largest value of each channel over the sentence (Kim 2014).

    Args:
        filters: channels.
        span: words that a convolution sees, an odd number.

    Shapes:
        ``(B, L)`` -> ``(B, filters)``
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        buckets: int | None,
        width: int = 128,
        words: int = 32,
        filters: int = 256,
        span: int = 3,
    ) -> None:
        super().__init__(image_shape, buckets, width, words)
        check_int("model.backbone.filters", filters, least=1)
        if span % 2 == 0:
            raise UserError(f"model.backbone.span={span} must be odd, so that a word is in the middle")
        self.conv = nn.Linear(span * width, filters)
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
