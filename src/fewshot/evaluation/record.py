"""What happened in each evaluated task, gathered over batches and processes."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from fewshot.evaluation.intervals import Interval, mean_interval


@dataclass(frozen=True)
class TaskScores:
    """Scores of a list of tasks, in the order of their numbers.

    Attributes:
        index: ``(tasks,)`` task numbers.
        accuracy: ``(tasks, steps+1)`` share of queries classified rightly, before adaptation and after each step. A query whose
            loss is not finite counts as wrong.
        loss: ``(tasks, steps+1)`` mean query loss.
    """

    index: npt.NDArray[np.int64]
    accuracy: npt.NDArray[np.float64]
    loss: npt.NDArray[np.float64]

    @property
    def final_accuracy(self) -> Interval:
        """After the last adaptation step."""
        return mean_interval(self.accuracy[:, -1])

    @property
    def final_loss(self) -> Interval:
        """After the last adaptation step."""
        return mean_interval(self.loss[:, -1])

    @property
    def nonfinite_tasks(self) -> int:
        """How many tasks have a query whose loss is not finite after the last adaptation step."""
        return int((~np.isfinite(self.loss[:, -1])).sum())

    @property
    def accuracy_per_step(self) -> list[Interval]:
        """Before adaptation and after each step."""
        return [mean_interval(column) for column in self.accuracy.T]


class TaskRecord(Metric):
    """Collects the scores of tasks; each task counts once, whatever process or batch it came from."""

    full_state_update = False
    index: list[Tensor]
    accuracy: list[Tensor]
    loss: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for state in ("index", "accuracy", "loss"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, index: Tensor, accuracy: Tensor, loss: Tensor) -> None:
        """Adds tasks.

        Args:
            index: ``(T,)``
            accuracy: ``(T, steps+1)``
            loss: ``(T, steps+1)``
        """
        self.index.append(index)
        self.accuracy.append(accuracy)
        self.loss.append(loss)

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """Index, accuracy and loss of all tasks so far, in the order they came."""
        return dim_zero_cat(self.index), dim_zero_cat(self.accuracy), dim_zero_cat(self.loss)

    def scores(self) -> TaskScores:
        """The tasks of all processes, in the order of their numbers."""
        index, accuracy, loss = (tensor.cpu().numpy() for tensor in self.compute())
        unique, first = np.unique(index, return_index=True)
        # torchmetrics hands a single value over as a scalar, so shapes are given back here.
        rows = (index.size, -1)
        return TaskScores(unique, *(figures.reshape(rows)[first].astype(np.float64) for figures in (accuracy, loss)))
