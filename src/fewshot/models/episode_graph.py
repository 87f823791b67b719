"""A model that compares, with the support set as an input: one graph for tasks of any size."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from fewshot.backbones.norm import norm_mode
from fewshot.errors import UserError
from fewshot.models.base import MetaLearner
from fewshot.models.embedding import EmbeddingLearner


class EpisodeGraph(nn.Module):
    """Support rows, their classes and query rows, to outputs.

    Args:
        scale: normalises rows.
        model: that predicts each query by itself.

    Raises:
        UserError: the model adapts to a support set, which no graph of operations holds.
    """

    def __init__(self, scale: nn.Module, model: MetaLearner) -> None:
        super().__init__()
        if not isinstance(model, EmbeddingLearner) or model.description["adapt"] == ["head"]:
            raise UserError(
                f"episode=true needs a model that compares, such as protonet, and {model.description['model']} adapts to the "
                "support set; export what it becomes on yours: episode=false"
            )
        self.scale, self.model = scale, deepcopy(model).eval().requires_grad_(False)

    def forward(self, support_x: Tensor, members: Tensor, query_x: Tensor) -> Tensor:
        """Outputs ``(B, N)``.

        Args:
            support_x: rows ``(S, ...)``
            members: ``(S, N)``, 1 for a row's class and 0 for the others.
            query_x: rows ``(B, ...)``
        """
        shots = support_x.shape[0]
        with norm_mode(rows=shots):  # where the support set normalises; else layers have statistics of their own
            features = self.model.features(self.scale(torch.cat([support_x, query_x])))
        outputs: Tensor = self.model.compare(features[None, :shots], members[None], features[None, shots:])[0]
        return outputs
