"""What is said of a user's inputs: probabilities, how surely they are known, and what they are most like."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fewshot.predict.support_set import SupportSet
from fewshot.predict.unknown import SCORES

if TYPE_CHECKING:  # it imports Lightning, which takes seconds
    from fewshot.predict.predictor import TaskPredictor


@dataclass(frozen=True)
class Predicted:
    """What is said of inputs.

    Attributes:
        probabilities: ``(n, classes)``
        scores: by name, how sure it is that they are of a known class, ``(n,)`` each (`fewshot.predict.unknown`).
        nearest: ``(n,)`` the example of the support set, in the order given, whose features are nearest.
    """

    probabilities: npt.NDArray[np.float64]
    scores: dict[str, npt.NDArray[Any]]
    nearest: npt.NDArray[np.int64]

    @classmethod
    def of(cls, predictor: "TaskPredictor", support: SupportSet, queries: Tensor, together: bool) -> "Predicted":
        """Of rows of queries ``(n, ...)``; `together` as in `SupportSet.tasks`."""
        parts = []
        for task in support.tasks(queries, together):
            outputs = predictor.answers(task)
            scores = predictor.known_scores(task, outputs[None])
            of_support, of_query = predictor.features(task)
            nearest = torch.cdist(of_query[0], of_support[0]).argmin(dim=1).numpy()
            probabilities = (outputs.double() / predictor.temperature).softmax(dim=1).numpy()
            parts.append(cls(probabilities, {name: scores[name][0].cpu().numpy() for name in SCORES}, support.order[nearest]))
        return cls.joined(parts)

    @classmethod
    def joined(cls, parts: Sequence["Predicted"]) -> "Predicted":
        """What was said of several lots of inputs, one behind the other."""
        return cls(
            np.concatenate([part.probabilities for part in parts]),
            {name: np.concatenate([part.scores[name] for part in parts]) for name in SCORES},
            np.concatenate([part.nearest for part in parts]),
        )
