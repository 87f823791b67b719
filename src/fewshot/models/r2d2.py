"""R2-D2: ridge regression from features to labels, solved in closed form for every task.

Bertinetto, Henriques, Torr, Vedaldi (2019), "Meta-learning with differentiable closed-form solvers", section 3.2.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot.errors import check_positive
from fewshot.models.embedding import EmbeddingLearner
from fewshot.models.ridge import ridge_weights


class R2D2(EmbeddingLearner):
    """Outputs are the regression's, times a learned scale that suits them to the cross-entropy (equation 7).

    The penalty is of each image, as in the published code, whose regression is of mean squares: copies of the support set leave
    the answers alone, and what is learned with some number of images serves another. It is learned (the code keeps it), through
    its logarithm, which keeps it positive. A constant feature gives the regression its intercept. The published shift beta adds
    the same to every class, which cross-entropy does not see: it is left out. Values are regressed as they are.

    Args:
        penalty: that training starts from (lambda), of each image.
        scale: that training starts from (alpha).
        embedding: what all models of this kind take (`EmbeddingLearner`).
    """

    objectives = ("classification", "regression")

    def __init__(self, penalty: float, scale: float, **embedding: Any) -> None:
        check_positive("model.penalty", penalty)
        check_positive("model.scale", scale)
        super().__init__(parts={"regression": RidgeRegression(penalty, scale)}, **embedding)

    def fit_head(self, support: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        return (self._regression.fit(support, self.objective.encode(labels, support)),)

    def apply_head(self, head: tuple[Tensor, ...], query: Tensor) -> Tensor:
        (weights,) = head
        return self._regression.predict(weights, query)

    @property
    def _regression(self) -> "RidgeRegression":
        regression: RidgeRegression = self.network["regression"]  # type: ignore[index]
        return regression

    @property
    def description(self) -> dict[str, Any]:
        return {**super().description, "adapt": ["regression"]}


class RidgeRegression(nn.Module):
    """Fits targets on a support set and predicts them for queries, with a learned penalty and scale."""

    def __init__(self, penalty: float, scale: float) -> None:
        super().__init__()
        self.log_penalty = nn.Parameter(torch.tensor(float(penalty)).log())
        self.scale = nn.Parameter(torch.tensor(float(scale)))

    def fit(self, support: Tensor, targets: Tensor) -> Tensor:
        """Weights ``(T, D+1, N)`` from features ``(T, B, D)`` and targets ``(T, B, N)``."""
        penalty = support.shape[1] * self.log_penalty.exp()
        return ridge_weights(F.pad(support, (0, 1), value=1.0), targets, penalty)

    def predict(self, weights: Tensor, query: Tensor) -> Tensor:
        """From weights and features ``(T, Q, D)`` to ``(T, Q, N)``."""
        outputs: Tensor = self.scale * (F.pad(query, (0, 1), value=1.0) @ weights)
        return outputs
