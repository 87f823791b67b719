"""Matching networks: attention over the support set.

Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra (2016), "Matching Networks for One Shot Learning", section 2.1, appendix A.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot.backbones.backbone import Backbone
from fewshot.errors import check_int
from fewshot.models.embedding import EmbeddingLearner
from fewshot.objectives import one_hot


class MatchingNet(EmbeddingLearner):
    """Outputs are the logarithms of P(class | query, support set): the attention that its support images receive.

    The attention is the softmax over all support images of the cosine between features (section 2.1.1), which has no
    temperature.

    Args:
        backbone: from images to features.
        full_context: embed every image in the context of the whole support set, by LSTMs (section 2.1.2). The support set is
            then a sequence, so that the order of its classes counts, as in the paper.
        processing_steps: reads of the support set that a query's embedding takes (K in appendix A.1).
        embedding: what all models of this kind take (`EmbeddingLearner`).
    """

    def __init__(self, backbone: Backbone, full_context: bool = False, processing_steps: int = 5, **embedding: Any) -> None:
        check_int("model.processing_steps", processing_steps, least=1)
        parts = {"context": FullContext(backbone.out_features, processing_steps)} if full_context else {}
        super().__init__(backbone, parts=parts, **embedding)
        self._full_context = full_context

    def fit_head(self, support: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        return support, one_hot(labels, support).bool()

    def apply_head(self, head: tuple[Tensor, ...], query: Tensor) -> Tensor:
        support, members = head
        if self._full_context:
            support, query = self.network["context"](support, query)  # type: ignore[index]
        cosines = F.normalize(query, dim=-1) @ F.normalize(support, dim=-1).mT
        attention = cosines.log_softmax(dim=-1)
        return attention.unsqueeze(-1).masked_fill(~members.unsqueeze(1), -torch.inf).logsumexp(dim=2)

    @property
    def description(self) -> dict[str, Any]:
        return {**super().description, "full_context": self._full_context}


class FullContext(nn.Module):
    """Fully conditional embeddings: g of the support set (appendix A.2) and f of the queries (appendix A.1).

    Args:
        features: D, of an image before.
        steps: K.
    """

    def __init__(self, features: int, steps: int) -> None:
        super().__init__()
        self.of_support = nn.LSTM(features, features, batch_first=True, bidirectional=True)
        # LSTM(x, [h, r], c) of the paper: a gate is the same sum whether r stands beside h or beside x.
        self.of_query = nn.LSTMCell(2 * features, features)
        self.steps = steps

    def forward(self, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """From features ``(T, N*K, D)`` and ``(T, N*Q, D)`` to others of the same shapes."""
        both_ways: Tensor = self.of_support(support)[0]
        forward, backward = both_ways.chunk(2, dim=-1)
        g = support + forward + backward
        x = query.flatten(0, 1)
        h, c = torch.zeros_like(x), torch.zeros_like(x)
        for _ in range(self.steps):
            attention = (h.view_as(query) @ g.mT).softmax(dim=-1)
            r = (attention @ g).flatten(0, 1)
            out, c = self.of_query(torch.cat([x, r], dim=-1), (h, c))
            h = out + x
        return g, h.view_as(query)
