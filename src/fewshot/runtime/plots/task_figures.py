"""Some tasks with what a model makes of them, as a figure that suits their inputs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import lightning as L
import numpy as np
import torch
from matplotlib.figure import Figure

from fewshot.data.datamodule import EpisodicDataModule
from fewshot.data.tables.functions import Functions
from fewshot.evaluation.function_pictures import function_pictures
from fewshot.evaluation.pictures import task_pictures
from fewshot.models.base import MetaLearner
from fewshot.runtime.plots.predictions import answers, are_pictures

IMAGE_TASKS, FUNCTION_TASKS = 3, 10
"""Tasks in a figure that a run leaves."""
STEPS = (0, 1, 5, 10)
"""Adaptation steps after which a function's prediction is shown, beside the last."""
PLACES = 100
"""Along a function."""


def left_tasks(datamodule: EpisodicDataModule, split: str) -> int:
    """How many tasks are in the figure that a run leaves."""
    return FUNCTION_TASKS if isinstance(datamodule.parts[split], Functions) else IMAGE_TASKS


def task_figure(trainer: L.Trainer, model: MetaLearner, split: str, tasks: Sequence[int]) -> Figure | None:
    """Tasks of a split by their numbers; None where their inputs cannot be shown."""
    datamodule = cast(EpisodicDataModule, trainer.datamodule)  # type: ignore[attr-defined]
    functions = datamodule.parts[split]
    if isinstance(functions, Functions):
        return _functions(trainer, model, functions, tasks)
    if not are_pictures(datamodule):
        return None
    seen = answers(trainer, model, split, tasks)
    return task_pictures(seen.index, seen.support, seen.query, seen.predicted, seen.confidence, seen.classes)


def _functions(trainer: L.Trainer, model: MetaLearner, functions: Functions, tasks: Sequence[int]) -> Figure:
    """With what is predicted along each function, from the leftmost to the rightmost of its points."""
    (batch,) = functions.draw(tasks)
    points = torch.cat([batch.support_x, batch.query_x], dim=1).squeeze(-1).double().numpy()
    x = np.linspace(points.min(axis=1), points.max(axis=1), PLACES, axis=1)
    y = functions.values(tasks, x)
    along = replace(batch, query_x=torch.from_numpy(x).float().unsqueeze(-1), query_y=torch.from_numpy(y).float())
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices), trainer.precision_plugin.val_step_context():
        outputs = model.evaluate(along.to(model.device)).float().squeeze(-1).cpu().numpy()  # (T, steps+1, B)
    last = outputs.shape[1] - 1
    predicted = {step: outputs[:, step] for step in sorted({*STEPS, last}) if step <= last}
    rmse = {step: np.sqrt(np.square(values - y).mean(axis=1)) for step, values in predicted.items()}
    given = (batch.support_x.squeeze(-1).numpy(), batch.support_y.numpy())
    return function_pictures(batch.index.numpy(), given, x, y, predicted, rmse)
