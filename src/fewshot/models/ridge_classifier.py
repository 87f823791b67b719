"""Ridge regression from features to labels, fitted to each support set: no outer step (`FeatureHead`).

R2-D2 is the same with features, penalty and scale that outer steps learn.
"""

from typing import Any

from torch import Tensor

from fewshot.errors import check_positive
from fewshot.models.feature_head import FeatureHead
from fewshot.models.ridge import ridge_weights
from fewshot.objectives import one_hot


class RidgeClassifier(FeatureHead):
    """Outputs are the regression's of a 1 among 0s, times a scale; the intercept is not penalised, as in scikit-learn.

    Args:
        penalty: of the squared weights.
        scale: factor of the outputs: a larger one makes probabilities surer.
        head: what all heads take (`FeatureHead`).
    """

    def __init__(self, penalty: float, scale: float, **head: Any) -> None:
        check_positive("model.penalty", penalty)
        check_positive("model.scale", scale)
        super().__init__(**head)
        self._penalty, self._scale = penalty, scale

    def fit(self, support: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        targets, mean = one_hot(labels, support), support.mean(dim=1, keepdim=True)
        shares = targets.mean(dim=1, keepdim=True)
        weights = ridge_weights(support - mean, targets - shares, self._penalty)
        return weights, shares - mean @ weights

    def outputs(self, head: tuple[Tensor, ...], query: Tensor) -> Tensor:
        weights, intercept = head
        return self._scale * (query @ weights + intercept)
