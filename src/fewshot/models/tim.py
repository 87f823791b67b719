"""TIM: a head that agrees with the support set's labels and makes its predictions for all queries informative.

Boudiaf, Ziko, Rony, Dolz, Piantanida, Ben Ayed (2020), "Transductive Information Maximization For Few-Shot Learning",
section 3: TIM-GD, with the settings of its code.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot.errors import check_int, check_positive
from fewshot.models.classifier import Classifier
from fewshot.models.embedding import class_means
from fewshot.objectives import one_hot

TEMPERATURE = 15.0
OF_SUPPORT, OF_CONDITIONAL = 0.1, 0.1
"""Weights of the support set's cross-entropy (lambda) and of the conditional entropy (alpha), beside a marginal one of 1."""


class TIM(Classifier):
    """Outputs are ``-temperature / 2 * |z - w_k|^2`` for features z of length 1 and weights w that start from the class means.

    Adam minimises, on each task's support set S and all its queries Q together (equation 4),

        lambda * cross-entropy(S) - H(mean prediction for Q) + alpha * mean H(predictions for Q).

    It is transductive whatever the batch normalisation: a query's prediction depends on the other queries. Without them
    (`transductive` is false) the support set's cross-entropy is all that is minimised, and each query is predicted by itself.

    Args:
        iterations: steps of Adam.
        lr: its rate.
        transductive: whether the head is fitted to the queries too.
        classifier: what all models of this kind take (`Classifier`).
    """

    def __init__(self, iterations: int, lr: float, transductive: bool = True, **classifier: Any) -> None:
        check_int("model.iterations", iterations, least=0)
        check_positive("model.lr", lr)
        super().__init__(**classifier)
        self._iterations, self._lr, self._transductive = iterations, lr, transductive

    def compare(self, support: Tensor, labels: Tensor, query: Tensor) -> Tensor:
        return self.apply_head(self._fit(support, labels, query if self._transductive else None), query)

    def fit_head(self, support: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        return self._fit(support, labels, None)

    def apply_head(self, head: tuple[Tensor, ...], query: Tensor) -> Tensor:
        return _logits(F.normalize(query, dim=-1), *head)

    def _fit(self, support: Tensor, labels: Tensor, query: Tensor | None) -> tuple[Tensor, ...]:
        """The weights, from features of the support set and, where they are not None, of the queries."""
        support = F.normalize(support, dim=-1)
        query = None if query is None else F.normalize(query, dim=-1)
        members = one_hot(labels, support)
        weights = class_means(support, labels).detach().requires_grad_()
        optimizer = torch.optim.Adam([weights], self._lr)
        with torch.enable_grad():
            for _ in range(self._iterations):
                of_queries = None if query is None else _logits(query, weights)
                objective = _objective(_logits(support, weights), members, of_queries)
                (weights.grad,) = torch.autograd.grad(objective.sum(), [weights])
                optimizer.step()
        return (weights.detach(),)

    @property
    def description(self) -> dict[str, Any]:
        description = super().description
        transductive = self._transductive or description["transductive"]
        return {**description, "transductive": transductive, "adapt": ["head"], "eval_iterations": self._iterations}


def _logits(features: Tensor, weights: Tensor) -> Tensor:
    """``(T, B, N)`` from features ``(T, B, D)`` and weights ``(T, N, D)``."""
    squares = features.square().sum(dim=-1, keepdim=True) + weights.square().sum(dim=-1).unsqueeze(1)
    return TEMPERATURE * (features @ weights.mT - squares / 2)


def _objective(support: Tensor, members: Tensor, query: Tensor | None) -> Tensor:
    """Of each task ``(T,)``, from outputs ``(T, N*K, N)`` for its support set and ``(T, N*Q, N)`` for queries, or None."""
    of_support = -(members * support.log_softmax(dim=-1)).sum(dim=-1).mean(dim=-1)
    if query is None:
        return of_support
    log_probabilities = query.log_softmax(dim=-1)
    probabilities = log_probabilities.exp()
    conditional = -(probabilities * log_probabilities).sum(dim=-1).mean(dim=-1)
    mean = probabilities.mean(dim=1)
    marginal = -(mean * mean.clamp(min=torch.finfo(query.dtype).tiny).log()).sum(dim=-1)
    return OF_SUPPORT * of_support - marginal + OF_CONDITIONAL * conditional
