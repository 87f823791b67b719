"""TF-IDF of hashed n-grams with the nearest centroid or ridge regression: what text needs no meta-learning for.

Document frequencies are those of the training classes' sentences; nothing of another part is looked at. The weights are
scikit-learn's: n * (ln((1 + sentences) / (1 + sentences with it)) + 1), of length 1.
"""

from collections.abc import Iterable
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot.backbones.backbone import Backbone
from fewshot.backbones.words import WORD
from fewshot.errors import UserError, check_positive, suggest
from fewshot.models.embedding import EmbeddingLearner, class_means, one_hot
from fewshot.models.ridge import ridge_weights

CLASSIFIERS = ("centroid", "ridge")


class TfidfVectors(Backbone):
    """From sentences ``(B, L)`` to vectors of length 1, ``(B, ids)``."""

    def __init__(self, input_shape: tuple[int, ...], ids: int) -> None:
        super().__init__()
        self.input_shape, self.ids, self.out_features = input_shape, ids, ids
        self.idf = nn.Parameter(torch.ones(ids), requires_grad=False)

    def forward(self, ids: Tensor) -> Tensor:
        return F.normalize(self.counts(ids) * self.idf, dim=-1)

    def counts(self, ids: Tensor) -> Tensor:
        """How often each n-gram occurs in each sentence."""
        found = self.idf.new_zeros(len(ids), self.out_features)
        return found.scatter_add(1, ids, (ids > WORD).to(found.dtype))


class Tfidf(EmbeddingLearner):
    """Takes no outer step: training is counting.

    Args:
        backbone: of the experiment, of which nothing is taken but what its inputs are.
        classifier: ``centroid``, whose outputs are negative squared distances, or ``ridge`` regression to labels.
        penalty: of the regression.
        scale: of the outputs, which says how sure they are.
        embedding: what all models of this kind take (`EmbeddingLearner`).
    """

    inputs: ClassVar[tuple[str, ...]] = ("text",)
    takes_outer_steps: ClassVar[bool] = False

    def __init__(self, backbone: Backbone, classifier: str, penalty: float, scale: float, **embedding: Any) -> None:
        if classifier not in CLASSIFIERS:
            raise UserError(f"model.classifier={classifier} is unknown{suggest(classifier, CLASSIFIERS)}")
        check_positive("model.penalty", penalty)
        check_positive("model.scale", scale)
        if backbone.ids is None:
            raise UserError(f"model.backbone: {type(backbone).__name__} takes no sentences; choose embedding_bag")
        super().__init__(TfidfVectors(backbone.input_shape, backbone.ids), **embedding)
        self._classifier, self._penalty, self._scale = classifier, penalty, scale

    @property
    def _vectors(self) -> TfidfVectors:
        return cast(TfidfVectors, self._backbone)

    def fit_rows(self, rows: Iterable[Tensor]) -> None:
        idf = self._vectors.idf
        sentences, having = 0, torch.zeros_like(idf)
        for ids in rows:
            sentences += len(ids)
            having += (self._vectors.counts(ids.to(idf.device)) > 0).sum(dim=0)
        with torch.no_grad():
            idf.copy_(((1 + sentences) / (1 + having)).log() + 1)

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
        return {**super().description, "model": f"TF-IDF {self._classifier}", "backbone": "n-gram counts"}
