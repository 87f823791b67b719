"""Several checkpoints of a run as one model."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fewshot.models.base import MetaLearner
from fewshot.tasks.batch import TaskBatch


class Ensemble(MetaLearner):
    """Predicts by the mean of its members' probabilities, each adapted by itself; of values, by the mean of these.

    Antoniou et al. (2019) test MAML++ so, with the five checkpoints that validated best. Its outputs are the logarithms of the
    mean probabilities, which the softmax gives back.

    Args:
        model: takes the members' weights, one after another.
        members: state dicts.
    """

    objectives = ("classification", "regression")

    def __init__(self, model: MetaLearner, members: Sequence[Mapping[str, Tensor]]) -> None:
        super().__init__(model.network, torch.optim.SGD, objective=model.objective)
        self.member, self._states, self._of_classes = model, members, model.objective.name == "classification"

    @property
    def takes_outer_steps(self) -> bool:
        """Never: its members were trained by themselves."""
        return False

    def meta_gradient(self, batch: TaskBatch, tasks: int | None = None) -> tuple[Tensor, ...]:
        """Losses and outputs as in evaluation; nothing in it learns, so that no gradient is added."""
        outputs = self.evaluate(batch)[:, -1].detach()
        return self.query_losses(outputs, batch.query_y).mean(dim=-1), outputs

    def evaluate(self, batch: TaskBatch) -> Tensor:
        found: list[Tensor] = []
        for state in self._states:
            self.member.load_state_dict(state)
            outputs = self.member.evaluate(batch)
            outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
            found.append(outputs.log_softmax(dim=-1) if self._of_classes else outputs)
        members = torch.stack(found)
        if not self._of_classes:
            return members.mean(dim=0)
        # by logarithms throughout: a probability may be too small for its number, and its logarithm would be infinite
        return members.logsumexp(dim=0) - math.log(len(found))

    def features_of(self, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        return self.member.features_of(batch)

    @property
    def description(self) -> dict[str, Any]:
        return {**self.member.description, "ensemble": len(self._states)}
