"""A support set as tensors, and the tasks that it makes with a user's queries."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fewshot.predict.errors import InputError
from fewshot.tasks.batch import TaskBatch, TaskRows

QUERIES_AT_ONCE = 512
"""That are answered in one pass, at the least; a support set that is larger is answered by as many."""


@dataclass(frozen=True)
class SupportSet:
    """Examples that a model adapts to.

    Attributes:
        x: rows ``(S, ...)``, before they are normalised; those of a class together, as in the tasks of a run.
        y: labels ``(S,)`` from 0 on, or values.
        classes: names of the classes, sorted; None of a regression.
        order: of each row, its number in the order in which the examples were given.
    """

    x: Tensor
    y: Tensor
    classes: npt.NDArray[Any] | None
    order: npt.NDArray[np.int64]

    @property
    def ways(self) -> int:
        """Classes that there are; 1 of a regression, as of a task without classes."""
        return 1 if self.classes is None else len(self.classes)

    @classmethod
    def of(cls, x: Tensor, y: Any, regression: bool) -> "SupportSet":
        """What a user gives.

        Args:
            x: rows.
            y: their classes, of any names, or values.
            regression: whether they are values.

        Raises:
            InputError: there is not one label for each row, labels are no classes (values: not finite), or there is one class.
        """
        labels = labels_of(y, len(x))
        if regression:
            targets = torch.from_numpy(labels.astype(np.float32))
            if not targets.isfinite().all():
                raise InputError("y contains NaN or infinity; leave such rows out")
            return cls(x, targets, None, np.arange(len(x)))
        if labels.dtype.kind == "f" and (labels != labels.round()).any():
            raise InputError("Unknown label type: continuous; classes are names or whole numbers")
        try:
            classes, numbers = np.unique(labels, return_inverse=True)
        except TypeError as error:  # which cannot be sorted
            raise InputError(f"y has labels of several kinds ({error}); give names, or whole numbers") from error
        if len(classes) < 2:
            raise InputError(f"the support set has 1 class, {classes[0]}; give examples of two classes or more")
        order = np.argsort(numbers.reshape(-1), kind="stable")
        return cls(x[order], torch.from_numpy(numbers.reshape(-1)[order].astype(np.int64)), classes, order)

    def task(self, queries: Tensor) -> TaskBatch:
        """The task of this support set and rows of queries, whose targets are not known."""
        classes = None if self.classes is None else torch.arange(len(self.classes))[None]
        rows = TaskRows(torch.zeros(1, dtype=torch.int64), class_id=classes)
        return TaskBatch(self.x[None], self.y[None], queries[None], self.y.new_zeros(1, len(queries)), rows)

    def tasks(self, queries: Tensor, together: bool) -> Iterator[TaskBatch]:
        """The tasks of this support set and some of the queries at a time; of all, where these tell of each other."""
        yield from map(self.task, torch.split(queries, len(queries) if together else max(QUERIES_AT_ONCE, len(self.x))))


def labels_of(y: Any, count: int) -> npt.NDArray[Any]:
    """Labels or values as an array ``(count,)``.

    Raises:
        InputError: there is not one for each input.
    """
    labels = np.asarray(y.detach().cpu() if isinstance(y, Tensor) else y)
    if labels.shape != (count,):
        raise InputError(f"y has shape {list(labels.shape)} but there are {count} inputs; give one label for each")
    return labels
