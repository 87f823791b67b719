"""CAVIA: a task adapts a small context, from zero, and leaves the network as it is.

Zintgraf, Shiarli, Kurin, Hofmann, Whiteson (2019), "Fast Context Adaptation via Meta-Learning", Algorithm 1. The context
feeds a `FiLM` layer, before the ReLU of one block as in the published code; the outer loop learns all other parameters.
"""

from typing import Any, ClassVar

from fewshot.backbones.backbone import Backbone
from fewshot.backbones.film import modulate_
from fewshot.errors import check_int
from fewshot.models.maml import MAML


class CAVIA(MAML):
    """MAML that adapts context parameters alone (``model.inner.adapt=["*.context"]``).

    Args:
        context: number of context parameters.
        layer: the backbone's activation that they act before, counted from 1.
    """

    inputs: ClassVar[tuple[str, ...]] = ("images", "vectors", "ratings")  # a `FiLM` has channels where sentences have words

    def __init__(self, backbone: Backbone, context: int, layer: int, **others: Any) -> None:
        check_int("model.context", context, least=1)
        modulate_(backbone, layer, context)
        super().__init__(backbone=backbone, **others)
