"""What ratings need no meta-learning for: means, biases, and a ridge regression on factors of alternating least squares.

All is fitted on the ratings of training users alone; of a new user only his support set is looked at. No outer step is taken.
"""

from collections.abc import Iterable
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from fewshot.backbones.backbone import Backbone
from fewshot.backbones.items import ItemVectors, rows_of_items
from fewshot.errors import UserError, check_int, check_positive, suggest
from fewshot.models.embedding import EmbeddingLearner
from fewshot.models.factors import biases, item_factors
from fewshot.models.fits_rows import FitsRows
from fewshot.models.ridge import ridge_weights
from fewshot.tasks.batch import RowBlock

METHODS = ("global_mean", "user_mean", "item_bias", "factors")


class ItemTable(Backbone):
    """From items ``(B, L)`` to their bias and factors ``(B, 1 + rank)``; zeros of an item without training ratings."""

    def __init__(self, input_shape: tuple[int, ...], ids: int | None, items: int, rank: int) -> None:
        super().__init__()
        self.input_shape, self.ids, self.out_features = input_shape, ids, 1 + rank
        self.table = nn.Parameter(torch.zeros(items, 1 + rank), requires_grad=False)
        self.mean = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return rows_of_items(self.table, x)


class RatingBaseline(FitsRows, EmbeddingLearner):
    """Predicts the mean of all training ratings, plus what the method adds.

    Args:
        backbone: of the experiment, of which nothing is taken but what its inputs are.
        method: ``global_mean`` adds nothing; ``user_mean`` the user's mean, drawn to that of all; ``item_bias`` the item's bias
            and the user's on top of it; ``factors`` also a ridge regression of what is left on the item's factors.
        user_penalty: of squared user biases: so many support ratings of the mean are added to a user's own.
        item_penalty: of squared item biases.
        rank: number of factors.
        factor_penalty: of squared factors.
        penalty: of the regression on the support set.
        sweeps: turns of alternating least squares.
        embedding: what all models of this kind take (`EmbeddingLearner`).
    """

    objectives: ClassVar[tuple[str, ...]] = ("regression",)
    inputs: ClassVar[tuple[str, ...]] = ("ratings",)

    def __init__(
        self,
        backbone: Backbone,
        method: str,
        user_penalty: float,
        item_penalty: float,
        rank: int,
        factor_penalty: float,
        penalty: float,
        sweeps: int,
        **embedding: Any,
    ) -> None:
        if method not in METHODS:
            raise UserError(f"model.method={method} is unknown{suggest(method, METHODS)}")
        penalties = {"user_penalty": user_penalty, "item_penalty": item_penalty, "factor_penalty": factor_penalty}
        for name, value in {**penalties, "penalty": penalty}.items():
            check_positive(f"model.{name}", value)
        check_int("model.rank", rank, least=1)
        check_int("model.sweeps", sweeps, least=1)
        if not isinstance(backbone, ItemVectors):
            raise UserError(f"model.backbone: {type(backbone).__name__} takes no rated items; choose model/backbone=items")
        rank = rank if method == "factors" else 0
        super().__init__(ItemTable(backbone.input_shape, backbone.ids, len(backbone.item), rank), **embedding)
        self._method, self._rank, self._sweeps, self._penalty = method, rank, sweeps, penalty
        self._user_penalty, self._item_penalty, self._factor_penalty = user_penalty, item_penalty, factor_penalty

    @property
    def _items(self) -> ItemTable:
        return cast(ItemTable, self._backbone)

    def fit_rows(self, rows: Iterable[RowBlock]) -> None:
        found = list(rows)
        items = len(self._items.table)
        item, user = torch.cat([of.x[:, 0] for of in found]), torch.cat([of.unit for of in found])
        if (last := int(item.max())) >= items:
            raise UserError(
                f"model.backbone.items={items} but training users have rated item {last} of the list; set "
                f"model.backbone.items={last + 1}"
            )
        values = torch.cat([of.y for of in found if of.y is not None]).double()
        mean, users = values.mean(), int(user.max()) + 1
        table = torch.zeros(items, 1 + self._rank, dtype=torch.float64)
        if self._method in ("item_bias", "factors"):
            of_users, table[:, 0] = biases(user, item, values - mean, users, items, self._user_penalty, self._item_penalty)
        if self._method == "factors":
            rest = values - mean - of_users[user] - table[item, 0]
            table[:, 1:] = item_factors(user, item, rest, users, items, self._rank, self._factor_penalty, self._sweeps)
        with torch.no_grad():
            self._items.mean.copy_(mean)
            self._items.table.copy_(table)

    def fit_head(self, support: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """The user's bias ``(T, 1)`` and weights ``(T, rank, 1)`` on factors."""
        rest = labels.to(support.dtype) - self._items.mean - support[..., 0]
        bias = rest.sum(dim=1, keepdim=True) / (rest.shape[1] + self._user_penalty)
        if self._method == "global_mean":
            bias = torch.zeros_like(bias)
        return bias, ridge_weights(support[..., 1:], (rest - bias).unsqueeze(-1), self._penalty)

    def apply_head(self, head: tuple[Tensor, ...], query: Tensor) -> Tensor:
        bias, weights = head
        return (self._items.mean + query[..., 0] + bias).unsqueeze(-1) + query[..., 1:] @ weights

    @property
    def description(self) -> dict[str, Any]:
        return {
            **super().description,
            "model": self._method.replace("_", " "),
            "backbone": "training ratings",
            "adapt": ["bias"],
        }
