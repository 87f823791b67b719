"""Proto-MAML: MAML whose head begins, in every task, as the task's prototypes.

Triantafillou et al. (2020), "Meta-Dataset: A Dataset of Datasets for Learning to Learn from Few Examples", section 3. With the
mean c_k of the support features of class k and the features f of a query,

    -|f - c_k|^2 = 2 c_k . f - |c_k|^2 - |f|^2,

whose last term all classes share: the linear layer with weight 2 c_k and bias -|c_k|^2 classifies as a prototypical network
does. It is where adaptation begins; the outer gradient flows through it into the features.
"""

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from fewshot.backbones.backbone import Backbone
from fewshot.errors import UserError
from fewshot.inner.fast_weights import TaskInit
from fewshot.inner.inner_loop import InnerLoop
from fewshot.inner.unrolled import Unrolled
from fewshot.models.maml import MAML


class ProtoMAML(MAML):
    """MAML with a head that is not learned across tasks and has as many outputs as a task has classes.

    Raises:
        UserError: the head is not adapted, or learned rates or transforms are of another number of classes.
    """

    fixed_ways = False
    objectives = ("classification",)

    def __init__(
        self, backbone: Backbone, ways: int | Sequence[int], eval_ways: int | Sequence[int], inner: InnerLoop, **others: Any
    ) -> None:
        of_elements = isinstance(inner, Unrolled) and (inner.rates == "per_element" or inner.transform != "none")
        if eval_ways != ways and of_elements:
            raise UserError(
                f"data.eval.ways={eval_ways} but the inner loop learns rates or transforms for a head of {ways} classes "
                f"(data.ways in training); choose data.eval.ways={ways}"
            )
        if not all(any(fnmatchcase(f"head.{leaf}", pattern) for pattern in inner.adapt) for leaf in ("weight", "bias")):
            raise UserError(
                f"model.inner.adapt={list(inner.adapt)} leaves out the head, which proto-MAML begins anew in every task; "
                "add head.*"
            )
        # Frozen across tasks, it is adapted because a pattern names it alone.
        super().__init__(backbone, ways, eval_ways, replace(inner, adapt=(*inner.adapt, "head.*")), **others)

    def new_head(self, features: int, outputs: int) -> nn.Linear:
        """Gives the tasks' heads their names and shapes; each task begins with values of its own (`task_init`)."""
        return nn.Linear(features, outputs).requires_grad_(False)

    def task_init(self, ways: int) -> TaskInit:
        features = self.network.get_submodule("features")

        def prototypes(support_x: Tensor, support_y: Tensor) -> dict[str, Tensor]:
            rows, kind = features(support_x), next(features.parameters(), support_x).dtype
            members = (support_y == torch.arange(ways, device=support_y.device)[:, None]).to(rows.dtype)
            # Fast weights have the precision of the network's parameters, even if autocast computed them in a lower one.
            centres = (members @ rows).to(kind) / members.sum(dim=1, keepdim=True)
            return {"head.weight": 2 * centres, "head.bias": -centres.square().sum(dim=1)}

        return prototypes
