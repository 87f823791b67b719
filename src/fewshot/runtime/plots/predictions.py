"""Chosen tasks and a model's predictions for them, ready to be drawn."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fewshot.data.datamodule import EpisodicDataModule
from fewshot.models.base import MetaLearner
from fewshot.tasks.batch import TaskBatch


@dataclass(frozen=True)
class Answers:
    """Tasks with the predictions after adaptation. Rows are sorted by label, whatever order the task had them in.

    Attributes:
        index: ``(T,)`` numbers of the tasks.
        support: ``(T, N*K, H, W, C)`` images from 0 to 1, as many of each class.
        query: ``(T, N*Q, H, W, C)`` likewise.
        predicted: ``(T, N*Q)`` labels.
        confidence: ``(T, N*Q)`` probability of the label predicted.
        classes: ``(T, N)`` names.
        batch: the same tasks as the network gets them.
    """

    index: npt.NDArray[np.int64]
    support: npt.NDArray[np.float32]
    query: npt.NDArray[np.float32]
    predicted: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float32]
    classes: list[list[str]]
    batch: TaskBatch

    @property
    def ways(self) -> int:
        """Classes of a task, ``N``."""
        return len(self.classes[0])

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """``(N*Q,)`` true labels of every task's queries."""
        return np.arange(self.ways).repeat(self.predicted.shape[1] // self.ways)

    @property
    def accuracy(self) -> npt.NDArray[np.float64]:
        """``(T, N)`` share of each class's queries that were recognised."""
        right = self.predicted == self.labels
        return np.asarray(right.reshape(len(right), self.ways, -1).mean(axis=-1))


def are_pictures(datamodule: EpisodicDataModule) -> bool:
    """Whether a dataset's inputs are images that can be shown, of classes."""
    shape = datamodule.image_shape
    return len(shape) == 3 and shape[0] in (1, 3) and datamodule.parts["test"].has_labels


def answers(trainer: L.Trainer, model: MetaLearner, split: str, tasks: Sequence[int]) -> Answers:
    """Adapts to some tasks of a split, as an evaluation does; where sizes vary, to those as large as the first of them.

    The model is in evaluation mode. Random numbers that come later are those that would have come without it.
    """
    datamodule = cast(EpisodicDataModule, trainer.datamodule)  # type: ignore[attr-defined]
    batch = _sorted(datamodule.tasks_of(split).draw(tasks)[0])
    (scaled,) = datamodule.scaled([batch.to(model.device)])
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices), trainer.precision_plugin.val_step_context():
        outputs = model.evaluate(scaled)[:, -1].float()
    shown = datamodule.prepared[split].gather_inputs(batch.rows)
    confidence, predicted = (tensor.cpu().numpy() for tensor in outputs.softmax(dim=-1).max(dim=-1))
    return Answers(
        batch.index.numpy(),
        _shown(_rows(shown.support_x, _as_many_of_each(batch.support_y))),
        _shown(shown.query_x),
        predicted,
        confidence,
        _classes(datamodule, split, batch),
        scaled,
    )


def _classes(datamodule: EpisodicDataModule, split: str, batch: TaskBatch) -> list[list[str]]:
    if batch.rows.class_id is None:
        raise ValueError(f"tasks of {datamodule.parts[split].name} have no classes to be named")
    names = datamodule.prepared[split].table.classes
    return [[names[number] for number in of_task] for of_task in batch.rows.class_id.tolist()]


def _as_many_of_each(labels: Tensor) -> Tensor:
    """Positions in sorted labels ``(T, S)``: the first of each class, as many as the smallest class has, ``(T, N*k)``."""
    counts = torch.nn.functional.one_hot(labels).sum(dim=1)
    starts = counts.cumsum(dim=1) - counts
    return (starts[:, :, None] + torch.arange(int(counts.min()))).flatten(1)


def _sorted(batch: TaskBatch) -> TaskBatch:
    """Each task's rows by label (the control ``shuffled_labels`` deals them out of order)."""
    support, query = (labels.argsort(dim=1, stable=True) for labels in (batch.support_y, batch.query_y))
    return replace(
        batch,
        support_x=_rows(batch.support_x, support),
        support_y=_rows(batch.support_y, support),
        query_x=_rows(batch.query_x, query),
        query_y=_rows(batch.query_y, query),
        rows=replace(
            batch.rows,
            support=None if batch.rows.support is None else _rows(batch.rows.support, support),
            query=None if batch.rows.query is None else _rows(batch.rows.query, query),
        ),
    )


def _rows(values: Tensor, order: Tensor) -> Tensor:
    return torch.stack([of_task[by] for of_task, by in zip(values, order, strict=True)])


def _shown(images: Tensor) -> npt.NDArray[np.float32]:
    """uint8 ``(T, B, C, H, W)`` as ``(T, B, H, W, C)`` from 0 to 1."""
    return np.asarray(images.movedim(2, -1).numpy() / np.float32(255))
