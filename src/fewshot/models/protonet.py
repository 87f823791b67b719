"""Prototypical networks: a class is the mean of its support set's features.

Snell, Swersky, Zemel (2017), "Prototypical Networks for Few-shot Learning", equations 1 and 2. The distance is the *squared*
Euclidean one, for which the mean is the point nearest to all of a class's images (section 2.3).
"""

from torch import Tensor

from fewshot.models.embedding import EmbeddingLearner, class_means


class ProtoNet(EmbeddingLearner):
    """Outputs are the negative squared distances of a query to the classes' prototypes."""

    def fit_head(self, support: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        return (class_means(support, labels),)

    def apply_head(self, head: tuple[Tensor, ...], query: Tensor) -> Tensor:
        return -squared_distances(query, *head)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Between the rows of `a` ``(T, A, D)`` and of `b` ``(T, B, D)``: ``(T, A, B)``."""
    return (a.unsqueeze(2) - b.unsqueeze(1)).square().sum(dim=-1)
