"""TF-IDF of hashed n-grams with the nearest centroid or ridge regression: what text needs no meta-learning for.

Document frequencies are those of the training classes' sentences; nothing of another part is looked at. The weights are
scikit-learn's: n * (ln((1 + sentences) / (1 + sentences with it)) + 1), of length 1. `LearnedTfidf` goes on from them.
"""

from collections.abc import Iterable
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot.backbones.backbone import Backbone
from fewshot.errors import UserError, check_positive, suggest
from fewshot.hashing import WORD
from fewshot.models.embedding import EmbeddingLearner, class_means
from fewshot.models.fits_rows import FitsRows
from fewshot.models.ridge import ridge_weights
from fewshot.objectives import one_hot
from fewshot.tasks.batch import RowBlock, TaskBatch

CLASSIFIERS = ("centroid", "ridge")


class TfidfVectors(Backbone):
    """From sentences ``(B, L)`` to vectors of length 1, ``(B, ids)``."""

    def __init__(self, input_shape: tuple[int, ...], ids: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.input_shape, self.ids, self.out_features = input_shape, ids, ids
        self.log_idf = nn.Parameter(torch.zeros(ids), requires_grad=False)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, ids: Tensor) -> Tensor:
        return F.normalize(self.drop(self.counts(ids)) * self.log_idf.exp(), dim=-1)

    def of_those_that_occur(self, ids: Tensor) -> Tensor:
        """The same without the columns of n-grams that no sentence has: inner products and distances are what they were."""
        found, columns = torch.unique(ids, return_inverse=True)
        counts = self.log_idf.new_zeros(len(ids), len(found)).scatter_add(1, columns, self._real(ids))
        return F.normalize(self.drop(counts) * self.log_idf[found].exp(), dim=-1)

    def counts(self, ids: Tensor) -> Tensor:
        """How often each n-gram occurs in each sentence."""
        return self.log_idf.new_zeros(len(ids), self.out_features).scatter_add(1, ids, self._real(ids))

    def _real(self, ids: Tensor) -> Tensor:
        """1 where an id is an n-gram's."""
        return (ids > WORD).to(self.log_idf.dtype)


class Tfidf(FitsRows, EmbeddingLearner):
    """Takes no outer step: training is counting.

    Args:
        backbone: of the experiment, of which nothing is taken but what its inputs are.
        classifier: ``centroid``, whose outputs are negative squared distances, or ``ridge`` regression to labels.
        penalty: of the regression.
        scale: factor of the outputs: a larger one makes probabilities surer.
        embedding: what all models of this kind take (`EmbeddingLearner`).
    """

    inputs: ClassVar[tuple[str, ...]] = ("text",)

    def __init__(self, backbone: Backbone, classifier: str, penalty: float, scale: float, **embedding: Any) -> None:
        if classifier not in CLASSIFIERS:
            raise UserError(f"model.classifier={classifier} is unknown{suggest(classifier, CLASSIFIERS)}")
        check_positive("model.penalty", penalty)
        check_positive("model.scale", scale)
        if backbone.ids is None:
            raise UserError(f"model.backbone: {type(backbone).__name__} takes no n-grams; choose embedding_bag")
        super().__init__(self.new_vectors(backbone.input_shape, backbone.ids), **embedding)
        self._classifier, self._penalty, self._scale = classifier, penalty, scale

    def new_vectors(self, input_shape: tuple[int, ...], ids: int) -> TfidfVectors:
        """What makes a vector of a sentence."""
        return TfidfVectors(input_shape, ids)

    @property
    def _vectors(self) -> TfidfVectors:
        return cast(TfidfVectors, self._backbone)

    def fit_rows(self, rows: Iterable[RowBlock]) -> None:
        weights = self._vectors.log_idf
        sentences, having = 0, torch.zeros_like(weights)
        for ids, _, _ in rows:
            sentences += len(ids)
            having += (self._vectors.counts(ids.to(weights.device)) > 0).sum(dim=0)
        with torch.no_grad():
            weights.copy_((((1 + sentences) / (1 + having)).log() + 1).log())

    def embed(self, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        ids = torch.cat([batch.support_x, batch.query_x], dim=1)
        vectors = self._vectors.of_those_that_occur(ids.flatten(0, 1)).view(*ids.shape[:2], -1)
        return vectors[:, : batch.support_x.shape[1]], vectors[:, batch.support_x.shape[1] :]

    def fit_head(self, support: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        if self._classifier == "ridge":
            return (ridge_weights(support, one_hot(labels, support), self._penalty),)
        return (class_means(support, labels).mT,)

    def apply_head(self, head: tuple[Tensor, ...], query: Tensor) -> Tensor:
        (weights,) = head
        if self._classifier == "ridge":
            return self._scale * (query @ weights)
        # by products: differences would be as many vectors as there are pairs
        squares = query.square().sum(dim=-1, keepdim=True) + weights.square().sum(dim=-2, keepdim=True)
        return -self._scale * (squares - 2 * query @ weights)

    @property
    def description(self) -> dict[str, Any]:
        name = f"{'TF-IDF' if not self.takes_outer_steps else 'Learned TF-IDF'} {self._classifier}"
        return {**super().description, "model": name, "backbone": "n-gram counts"}


class LearnedTfidf(Tfidf):
    """Begins with TF-IDF's weights and learns them by the query loss of its tasks, as a prototypical network its metric.

    Bao, Wu, Chang, Barzilay (2020), "Few-shot Text Classification with Distributional Signatures", learn what n-grams count for
    from such statistics; here each n-gram has a weight of its own, which an unseen one keeps.

    Args:
        drop_rate: share of a sentence's n-grams that a training step leaves out.
        tfidf: what `Tfidf` takes.
    """

    def __init__(self, drop_rate: float, **tfidf: Any) -> None:
        if not 0 <= drop_rate < 1:
            raise UserError(f"model.drop_rate={drop_rate} must be at least 0 and less than 1")
        self._drop_rate = drop_rate
        super().__init__(**tfidf)

    def new_vectors(self, input_shape: tuple[int, ...], ids: int) -> TfidfVectors:
        vectors = TfidfVectors(input_shape, ids, self._drop_rate)
        return vectors.requires_grad_()
