"""What a task asks for: its loss, its scores, the score that decides, and how many outputs a network needs.

Shapes: ``T`` tasks, ``B`` rows (support or query), ``O`` outputs of a row; leading dimensions ``...`` are free.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_f1_score,
    multiclass_recall,
)

from fewshot.errors import UserError, suggest
from fewshot.evaluation.intervals import mean_interval
from fewshot.evaluation.ranking import auroc, ndcg
from fewshot.evaluation.scores import SCORES

CALIBRATION_BINS = 15
NO_CLASS = -1
"""The predicted class of a query whose outputs are not numbers."""


@dataclass(frozen=True)
class Predictions:
    """What a model predicts for the queries of some tasks, query by query.

    Attributes:
        task: ``(R,)`` the number of each query's task.
        row: ``(R,)`` of the part's table that the query came from.
        target: ``(R,)`` the label or value that is right.
        predicted: ``(R,)`` the model's label or value.
        probability: ``(R,)`` of the predicted label; NaN where there are no labels.
    """

    task: Tensor
    row: Tensor
    target: Tensor
    predicted: Tensor
    probability: Tensor


class Objective(ABC):
    """What outputs mean.

    Args:
        monitor: the score that decides which checkpoint is best and which config wins, one of `step_scores`.
        mode: ``max`` where higher is better, ``min`` where lower is.

    Attributes:
        name: as the config names it.
        step_scores: names of the scores that are taken before adaptation and after each step.
        last_scores: names of those that are taken after the last step alone, in tests.

    Raises:
        UserError: there is no such score, or it points the other way.
    """

    name: ClassVar[str]
    step_scores: ClassVar[tuple[str, ...]]
    last_scores: ClassVar[tuple[str, ...]] = ()

    def __init__(self, monitor: str, mode: str) -> None:
        if monitor not in self.step_scores:
            raise UserError(f"objective.monitor={monitor} is no score of {self.name}{suggest(monitor, self.step_scores)}")
        if mode != SCORES[monitor].mode:
            right = SCORES[monitor].mode
            raise UserError(f"objective.mode={mode} but {monitor} is better the other way; set objective.mode={right}")
        self.monitor, self.mode = monitor, mode

    @abstractmethod
    def width(self, ways: int) -> int:
        """Outputs that a row needs in a task of `ways` classes."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss over rows, a scalar, from outputs ``(B, O)`` and targets ``(B,)``."""

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each row ``(..., B)`` from outputs ``(..., B, O)`` and targets ``(..., B)``."""

    @abstractmethod
    def encode(self, targets: Tensor, like: Tensor) -> Tensor:
        """Targets ``(T, B)`` as what a regression fits ``(T, B, O)``, of the type of `like`."""

    @abstractmethod
    def scores(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """`step_scores` by name, each ``(...)`` in double precision, from outputs ``(..., B, O)`` and targets ``(..., B)``."""

    @abstractmethod
    def scores_after_last(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """`last_scores` by name, each ``(T,)``, from outputs ``(T, B, O)`` and targets ``(T, B)``."""

    @abstractmethod
    def predict(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """The predicted label or value of each row and its probability, both ``(..., B)``, from outputs ``(..., B, O)``."""

    @abstractmethod
    def pooled_scores(self, predictions: Predictions) -> dict[str, float]:
        """Scores that need many queries, over those of all tasks."""


class Classification(Objective):
    """Labels 0 to N-1 within each task. Outputs are logits; a model whose outputs are no logits is scored as if they were.

    Accuracy decides. Outputs with a NaN, or whose largest is infinite, predict no class, so that they are never right. (One of
    minus infinity is the logarithm of a probability of 0.)
    """

    name = "classification"
    step_scores = ("acc",)
    last_scores = ("balanced_acc", "macro_f1", "auroc", "nll")

    def width(self, ways: int) -> int:
        return ways

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), reduction="none").view(targets.shape)

    def encode(self, targets: Tensor, like: Tensor) -> Tensor:
        return one_hot(targets, like)

    def scores(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        predicted, _ = self.predict(outputs)
        return {"acc": (predicted == targets).to(exact(outputs)).mean(dim=-1)}

    def scores_after_last(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Balanced accuracy, macro-F1, AUROC (one-vs-rest, mean over classes) and negative log-likelihood.

        All are within a task: over its own classes. AUROC and likelihood of a task with outputs that are not numbers are NaN.
        """
        ways = outputs.shape[-1]
        predicted, _ = self.predict(outputs)
        # A class that nobody asks for stands in for "no class": it is left out of the mean over classes.
        predicted = torch.where(predicted == NO_CLASS, ways, predicted)
        options: Any = {"num_classes": ways + 1, "average": "none", "multidim_average": "samplewise"}
        recall = multiclass_recall(predicted, targets, **options)[:, :ways]
        f1 = multiclass_f1_score(predicted, targets, **options)[:, :ways]
        probability = outputs.to(exact(outputs)).softmax(dim=-1)
        of_classes = auroc(probability.mT, F.one_hot(targets, ways).mT)
        return {
            "balanced_acc": recall.to(exact(outputs)).mean(dim=-1),
            "macro_f1": f1.to(exact(outputs)).mean(dim=-1),
            "auroc": of_classes.to(exact(outputs)).mean(dim=-1),
            "nll": self.losses(outputs.to(exact(outputs)), targets).mean(dim=-1),
        }

    def predict(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        probability, predicted = outputs.softmax(dim=-1).max(dim=-1)  # NaN where the outputs are not numbers
        return torch.where(probability.isnan(), NO_CLASS, predicted), probability.nan_to_num()

    def pooled_scores(self, predictions: Predictions) -> dict[str, float]:
        """Expected calibration error of the predicted class (Guo et al. 2017, equation 3; 15 bins of equal width)."""
        right = (predictions.predicted == predictions.target).long()
        error = binary_calibration_error(predictions.probability.float(), right, n_bins=CALIBRATION_BINS, norm="l1")
        return {"ece": float(error)}


class Regression(Objective):
    """One real value for each row; the root of a task's mean squared error decides.

    Results give the *mean over tasks* of each score, which for the root is not that of the pooled errors.
    """

    name = "regression"
    step_scores = ("rmse", "mse", "mae")

    def width(self, ways: int) -> int:
        return 1

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs.squeeze(-1), targets)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.squeeze(-1) - targets).square()

    def encode(self, targets: Tensor, like: Tensor) -> Tensor:
        return targets.unsqueeze(-1).to(like.dtype)

    def scores(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        errors = outputs.squeeze(-1).to(exact(outputs)) - targets.to(exact(outputs))
        mse = errors.square().mean(dim=-1)
        return {"rmse": mse.sqrt(), "mse": mse, "mae": errors.abs().mean(dim=-1)}

    def scores_after_last(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {}

    def predict(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        values = outputs.squeeze(-1)
        return values, torch.full_like(values, float("nan"))

    def pooled_scores(self, predictions: Predictions) -> dict[str, float]:
        """The share of the variance within tasks that is explained: squared errors over squares around each task's mean."""
        target, predicted = predictions.target.double(), predictions.predicted.double()
        _, task = torch.unique(predictions.task, return_inverse=True)
        sums = torch.zeros(int(task.max()) + 1, dtype=torch.float64).index_add_(0, task, target)
        means = sums / task.bincount()
        around = (target - means[task]).square().sum()
        return {"r2": float(1 - (predicted - target).square().sum() / around) if around else float("nan")}


class Rating(Regression):
    """Real values on a scale, of which the highest are wanted first; the mean absolute error decides.

    Scores are taken of outputs cut to the scale. Beside the errors: nDCG of the first 1, 3 and 5 queries (`ndcg`), and what a
    constant predictor has on the same queries, a random one on average; over the queries of all tasks, the root mean squared
    error.

    Args:
        low, high: ends of the scale.
    """

    step_scores = ("mae", "rmse", "mse")
    last_scores = ("ndcg1", "ndcg3", "ndcg5", "ndcg1_constant", "ndcg3_constant", "ndcg5_constant")

    def __init__(self, monitor: str, mode: str, low: float, high: float) -> None:
        super().__init__(monitor, mode)
        if not 0 < low < high:
            raise UserError(f"objective.low={low} and objective.high={high} must be the ends of a scale, greater than 0")
        self.low, self.high = low, high

    def scores(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return super().scores(self._cut(outputs), targets)

    def scores_after_last(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        predicted = self._cut(outputs).squeeze(-1)
        rankings = {"": predicted, "_constant": torch.zeros_like(predicted)}
        return {
            f"ndcg{rows}{name}": ndcg(values, targets, rows).to(exact(outputs))
            for name, values in rankings.items()
            for rows in (1, 3, 5)
        }

    def predict(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        return super().predict(self._cut(outputs))

    def pooled_scores(self, predictions: Predictions) -> dict[str, float]:
        """Also the root mean squared error, with its interval over tasks: a root of a ratio of sums, by the delta method."""
        errors = predictions.predicted.double() - predictions.target.double()
        _, task = torch.unique(predictions.task, return_inverse=True)
        counts = task.bincount().double()
        squares = torch.zeros_like(counts).index_add_(0, task, errors.square())
        mse = squares.sum() / counts.sum()
        of_tasks = (squares - mse * counts) / (counts.mean() * 2 * mse.sqrt())
        pooled = {"rmse_pooled": float(mse.sqrt()), "rmse_pooled_ci95": mean_interval(of_tasks.numpy()).ci95}
        return super().pooled_scores(predictions) | pooled

    def _cut(self, outputs: Tensor) -> Tensor:
        return outputs.clamp(self.low, self.high)


def one_hot(labels: Tensor, like: Tensor) -> Tensor:
    """Labels ``(T, B)`` as rows ``(T, B, N)`` of a 1 among 0s, of the type of `like`; such rows stay as they are.

    Every class has a row somewhere in the batch.
    """
    return (labels if labels.is_floating_point() else F.one_hot(labels)).to(like.dtype)


def exact(like: Tensor) -> torch.dtype:
    """The precision that scores are taken in; Apple's MPS has no double one."""
    return torch.float32 if like.device.type == "mps" else torch.float64
