"""None of these: how sure a model is that a query is of one of the support set's classes, and how well that tells.

Three scores, all higher for what is known: the largest probability (Hendrycks & Gimpel 2017), the energy, which is the
logarithm of the mean exponentiated output (Liu et al. 2020, sign turned), and the negative squared distance of a query's
features to the nearest mean of a class. All are of outputs as they are, whatever temperature probabilities are calibrated by:
a threshold is for the scores that it was found with.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot.tasks.batch import TaskBatch

if TYPE_CHECKING:  # it imports Lightning, which takes seconds
    from fewshot.models.base import MetaLearner

SCORES = ("probability", "energy", "distance")
ACCEPTED = 0.95
"""Share of known queries that are accepted where the share of unknown ones that are is told (FPR at 95 % TPR)."""


def known_scores(model: "MetaLearner", batch: TaskBatch, outputs: Tensor) -> dict[str, Tensor]:
    """By name, ``(T, B)`` each, from a batch of tasks as the model sees them and outputs ``(T, B, N)`` for its queries."""
    support, query = model.features_of(batch)
    members = F.one_hot(batch.support_y).to(support.dtype)
    means = members.mT @ support / members.sum(dim=1).unsqueeze(-1)
    outputs = outputs.float()
    return {
        "probability": outputs.softmax(dim=-1).amax(dim=-1),
        "energy": outputs.logsumexp(dim=-1) - torch.tensor(float(outputs.shape[-1])).log(),
        "distance": -torch.cdist(query, means).square().amin(dim=-1).to(outputs.device),
    }


def auroc(known: Tensor, unknown: Tensor) -> Tensor:
    """The probability that a known query scores higher than an unknown one, ``(T,)``, from scores ``(T, B)`` and ``(T, U)``."""
    higher, equal = known.unsqueeze(2) > unknown.unsqueeze(1), known.unsqueeze(2) == unknown.unsqueeze(1)
    return (higher.double() + 0.5 * equal.double()).mean(dim=(1, 2))


def fpr95(known: Tensor, unknown: Tensor) -> Tensor:
    """The share of unknown queries that are accepted where 95 % of the known ones are, ``(T,)``."""
    return (unknown >= threshold(known, 1 - ACCEPTED).unsqueeze(-1)).double().mean(dim=-1)


def threshold(known: Tensor, false_alarms: float) -> Tensor:
    """The score below which at most a share `false_alarms` of the known queries lie, ``(...)`` of scores ``(..., B)``."""
    ordered = known.sort(dim=-1).values
    # 0.05 * 20 is a little more than 1 in floating-point numbers
    return ordered[..., int(false_alarms * known.shape[-1] + 1e-9)]
