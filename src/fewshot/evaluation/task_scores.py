"""What happened in each evaluated task, gathered over batches and processes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from fewshot.evaluation.intervals import Interval, mean_interval
from fewshot.objectives import Predictions

Figures = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TaskScores:
    """Scores of a list of tasks, in the order of their numbers.

    Attributes:
        monitor: name of the score that decides.
        index: ``(tasks,)`` task numbers.
        steps: by name, ``(tasks, steps+1)`` before adaptation and after each step: the scores of the objective and ``loss``.
        last: by name, ``(tasks,)`` scores that were taken after the last step alone; none during training.
        pooled: by name, scores over the queries of all tasks; none during training.
        predictions: query by query; None during training.
    """

    monitor: str
    index: npt.NDArray[np.int64]
    steps: Mapping[str, Figures]
    last: Mapping[str, Figures] = field(default_factory=dict)
    pooled: Mapping[str, float] = field(default_factory=dict)
    predictions: Predictions | None = None

    @property
    def deciding(self) -> Figures:
        """The score that decides, ``(tasks, steps+1)``."""
        return self.steps[self.monitor]

    @property
    def loss(self) -> Figures:
        """Mean query loss, ``(tasks, steps+1)``."""
        return self.steps["loss"]

    @property
    def final(self) -> Interval:
        """The score that decides, after the last adaptation step."""
        return mean_interval(self.deciding[:, -1])

    @property
    def nonfinite_tasks(self) -> int:
        """How many tasks have a query whose loss is not finite after the last adaptation step."""
        return int((~np.isfinite(self.loss[:, -1])).sum())


class TaskRecord(Metric):
    """Collects the scores of tasks; each task counts once, whatever process or batch it came from.

    Args:
        steps: names of the scores with a figure for each adaptation step.
        last: names of those with one figure.
    """

    full_state_update = False

    def __init__(self, steps: Sequence[str], last: Sequence[str] = ()) -> None:
        super().__init__()
        self._steps, self._last = list(steps), list(last)
        for name in ("index", *steps, *last):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, index: Tensor, scores: Mapping[str, Tensor]) -> None:
        """Adds tasks.

        Args:
            index: ``(T,)``
            scores: by name, ``(T, steps+1)`` or ``(T,)``; those of `last` may be left out.
        """
        for name, values in {"index": index, **scores}.items():
            getattr(self, name).append(values)

    def compute(self) -> dict[str, Tensor]:
        """Index and scores of all tasks so far, in the order they came."""
        return _gathered(self, ("index", *self._steps, *self._last))

    def figures(self) -> tuple[npt.NDArray[np.int64], dict[str, Figures], dict[str, Figures]]:
        """Of the tasks of all processes in the order of their numbers: these, the scores by step, and those without."""
        found = {name: values.cpu().numpy() for name, values in self.compute().items()}
        unique, first = np.unique(found["index"], return_index=True)

        def rows(names: Sequence[str], *shape: int) -> dict[str, Figures]:
            # torchmetrics hands a single value over as a scalar, so shapes are given back here.
            return {name: found[name].reshape(-1, *shape)[first].astype(np.float64) for name in names if name in found}

        tasks = found["index"].size
        return unique, {name: rows([name], found[name].size // tasks)[name] for name in self._steps}, rows(self._last)


class PredictionRecord(Metric):
    """Collects what a model says of each query; each query counts once, whatever process or batch it came from."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self._names = [part.name for part in fields(Predictions)]
        for name in self._names:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, predictions: Predictions) -> None:
        """Adds queries."""
        for name in self._names:
            getattr(self, name).append(getattr(predictions, name))

    def compute(self) -> dict[str, Tensor]:
        """All queries so far, in the order they came."""
        return _gathered(self, self._names)

    def predictions(self) -> Predictions | None:
        """The queries of all processes by task and row; None where there are none."""
        if not self.update_called:
            return None
        found = {name: values.reshape(-1).cpu() for name, values in self.compute().items()}
        pairs = torch.stack([found["task"], found["row"]], dim=1).numpy()
        _, first = np.unique(pairs, axis=0, return_index=True)
        return Predictions(**{name: values[torch.from_numpy(first)] for name, values in found.items()})


def _gathered(metric: Metric, names: Sequence[str]) -> dict[str, Tensor]:
    """A metric's states as tensors, without those that are empty: lists, or tensors where processes have put them together."""
    states = {name: getattr(metric, name) for name in names}
    return {name: dim_zero_cat(state) for name, state in states.items() if len(state)}
