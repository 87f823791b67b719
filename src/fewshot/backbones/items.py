"""Items (movies) as vectors, from which one they are and what is known of them."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot.backbones.backbone import Backbone
from fewshot.errors import check_int


class ItemVectors(Backbone):
    """The vector of an item's id plus those of its tokens, and what a small network makes of it.

    Ids begin at zero: an item without a rating in training stays there, so that all that is said of it comes from its tokens.
    Items beyond `items` have no vector, and are told by their tokens alone.

    Args:
        image_shape: ``(L,)``: an item's place in the list of items, then the ids of its tokens, then 0s.
        tokens: ids of tokens that there are; None of data that are no ratings.
        items: vectors of items, the first ones in the list.
        width: of a vector.
        hidden: widths of the layers of the small network; none leave the vector as it is.

    Shapes:
        ``(B, L)`` -> ``(B, width + hidden[-1])``

    Raises:
        UserError: the data are no ratings.
    """

    def __init__(
        self, image_shape: Sequence[int], tokens: int | None, items: int = 16384, width: int = 16, hidden: Sequence[int] = (64,)
    ) -> None:
        super().__init__()
        for name, value in {"items": items, "width": width}.items():
            check_int(f"model.backbone.{name}", value, least=1)
        self.input_shape, self.ids = tuple(image_shape), self.require_ids(image_shape, tokens, "rated items", "movielens")
        self.item = nn.Parameter(torch.zeros(items, width))
        self.token = nn.Parameter(torch.empty(self.ids, width).normal_(std=width**-0.5))
        sizes = [width, *hidden]
        layers = [part for m, n in pairwise(sizes) for part in (nn.Linear(m, n), nn.ReLU())]
        self.layers = nn.Sequential(*layers)
        self.out_features = width + (hidden[-1] if hidden else 0)

    def forward(self, x: Tensor) -> Tensor:
        known = (x[:, 1:] > 0).to(self.token.dtype).unsqueeze(-1)
        tokens = (F.embedding(x[:, 1:], self.token) * known).sum(dim=1) / known.sum(dim=1).clamp(min=1).sqrt()
        vector = rows_of_items(self.item, x) + tokens
        return torch.cat([vector, self.layers(vector)], dim=-1) if len(self.layers) else vector


def rows_of_items(table: Tensor, x: Tensor) -> Tensor:
    """The rows ``(B, width)`` of a table that items ``(B, L)`` have, by their places; zeros of those beyond its end."""
    places = x[:, 0]
    known = (places < len(table)).to(table.dtype).unsqueeze(-1)
    return F.embedding(places.clamp(max=len(table) - 1), table) * known
