"""MetaOptNet: a convex classifier fitted to every task, differentiated at its optimum.

Lee, Maji, Ravichandran, Soatto (2019), "Meta-Learning with Differentiable Convex Optimization", section 3.2.
"""

from typing import Any

import torch
from torch import Tensor, nn

from fewshot.errors import UserError, check_positive, suggest
from fewshot.models.embedding import EmbeddingLearner
from fewshot.models.ridge import ridge_weights
from fewshot.models.svm import svm_duals
from fewshot.objectives import one_hot

HEADS = {"svm": 0.1, "ridge": 50.0}
"""Classifiers, and the published regularisation of each: C of the support vector machine, lambda of ridge regression."""


class MetaOptNet(EmbeddingLearner):
    """Outputs are those of the fitted classifier, times a learned scale (section 3.4).

    The published code adds the identity to the support vector machine's kernel to please its solver, which regularises beyond
    C; here the kernel is as in the paper.

    Args:
        head: ``svm``, of Crammer & Singer, or ``ridge``.
        regularisation: C or lambda; None takes the published one.
        label_smoothing: share of each query's label that is spread over all classes in training.
        embedding: what all models of this kind take (`EmbeddingLearner`).
    """

    def __init__(self, head: str, regularisation: float | None = None, label_smoothing: float = 0.0, **embedding: Any) -> None:
        if head not in HEADS:
            raise UserError(f"model.head={head} is unknown{suggest(head, HEADS)}")
        if regularisation is None:
            regularisation = HEADS[head]
        check_positive("model.regularisation", regularisation)
        super().__init__(parts={"scale": Scale()}, **embedding)
        self._head, self._regularisation, self._label_smoothing = head, regularisation, label_smoothing

    def fit_head(self, support: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        support = support.double()
        members = one_hot(labels, support)
        if self._head == "svm":
            return support.mT, svm_duals(support @ support.mT, members, self._regularisation)
        return (ridge_weights(support, members, self._regularisation),)

    def apply_head(self, head: tuple[Tensor, ...], query: Tensor) -> Tensor:
        outputs = query.double()
        for factor in head:
            outputs = outputs @ factor
        scaled: Tensor = self.network["scale"](outputs.to(query.dtype))  # type: ignore[index]
        return scaled

    def training_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        smooth = self._label_smoothing
        return (1 - smooth) * super().training_losses(outputs, targets) - smooth * outputs.log_softmax(dim=-1).mean(dim=-1)

    @property
    def description(self) -> dict[str, Any]:
        return {**super().description, "adapt": [self._head], "regularisation": self._regularisation}


class Scale(nn.Module):
    """A learned factor."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x
