"""Validation tasks as pictures: always the same ones, and those that go worst."""

from typing import cast

import lightning as L
import numpy as np

from fewshot.data.datamodule import EpisodicDataModule
from fewshot.errors import check_int
from fewshot.evaluation.pictures import worst_tasks
from fewshot.models.base import MetaLearner
from fewshot.runtime.plots.at_validation import AtValidation
from fewshot.runtime.plots.loggers import show_figure
from fewshot.runtime.plots.predictions import answers, are_pictures
from fewshot.runtime.plots.task_figures import task_figure


class _SomeTasks(AtValidation):
    """Pictures of a few tasks.

    Args:
        tasks: to show.
        every_n_steps: outer steps between pictures.
    """

    def __init__(self, tasks: int, every_n_steps: int) -> None:
        super().__init__(every_n_steps)
        check_int(f"callbacks: tasks of {type(self).__name__}", tasks, least=1)
        self._tasks = tasks


class FixedTasks(_SomeTasks):
    """The first validation tasks: support, queries, predictions and how sure of them the model is."""

    def show(self, trainer: L.Trainer, model: MetaLearner, step: int) -> None:
        datamodule = cast(EpisodicDataModule, trainer.datamodule)  # type: ignore[attr-defined]
        figure = task_figure(trainer, model, "val", range(min(self._tasks, datamodule.tasks["val"])))
        if figure is not None:
            show_figure(trainer, "val/tasks", figure, step)


class WorstTasks(_SomeTasks):
    """The validation tasks that were solved worst, with the accuracy on each of their classes."""

    def show(self, trainer: L.Trainer, model: MetaLearner, step: int) -> None:
        if are_pictures(cast(EpisodicDataModule, trainer.datamodule)):  # type: ignore[attr-defined]
            scores = model.scores["val"]
            worst = scores.index[np.argsort(scores.deciding[:, -1], kind="stable")[: self._tasks]]
            seen = answers(trainer, model, "val", [int(task) for task in worst])
            one_each = seen.support[:, :: seen.support.shape[1] // seen.ways]
            show_figure(trainer, "val/worst_tasks", worst_tasks(seen.index, one_each, seen.classes, seen.accuracy), step)
