"""Tasks (episodes): what one is made of.

Shapes: ``T`` tasks, ``N`` ways, ``K`` shots, ``Q`` queries a class; ``S`` support and ``B`` query rows of a task, which are
``N*K`` and ``N*Q`` where a task has classes of equal size. A meta-batch is a list of `TaskBatch`, each of tasks of one size.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from fewshot.errors import check_int

Rows = TypeVar("Rows", bound="_Stacked")


@dataclass(frozen=True)
class TaskSize:
    """The size of a task: `ways` classes with `shots` support and `queries` query rows each."""

    ways: int
    shots: int
    queries: int

    def __post_init__(self) -> None:
        for field in fields(self):
            check_int(field.name, getattr(self, field.name), least=1)

    @property
    def rows_per_class(self) -> int:
        """Rows that a task takes of each of its classes."""
        return self.shots + self.queries


@dataclass(frozen=True)
class _Stacked(ABC):
    """Tensors whose first dimension is the task."""

    def __iter__(self: Rows) -> Iterator[Rows]:
        """The tasks one by one, each without its leading ``T``."""
        for i in range(len(self)):
            yield self._map(itemgetter(i))

    @abstractmethod
    def __len__(self) -> int: ...

    def slice(self: Rows, start: int, stop: int) -> Rows:
        """Tasks `start` to `stop` (left out)."""
        return self._map(itemgetter(slice(start, stop)))

    def to(self: Rows, device: torch.device | str, non_blocking: bool = False) -> Rows:
        """The same tasks on `device` (Lightning calls this)."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self: Rows) -> Rows:
        """The same tasks in page-locked memory (the DataLoader calls this)."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self: Rows, function: Callable[[Tensor], Tensor]) -> Rows:
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            changed[field.name] = (
                value._map(function) if isinstance(value, _Stacked) else None if value is None else function(value)
            )
        return replace(self, **changed)


@dataclass(frozen=True)
class TaskRows(_Stacked):
    """Which rows of a table `T` tasks of one size consist of; nothing of their content has been read.

    Attributes:
        index: ``(T,)`` the tasks' numbers in their stream
        support: ``(T, S)`` numbers of rows; None where tasks are computed
        query: ``(T, B)`` likewise
        support_y: ``(T, S)`` labels 0 to N-1; None where a row's target is part of its content
        query_y: ``(T, B)`` likewise
        class_id: ``(T, N)`` the number of each label's class among the classes of its part; None where tasks have no classes
    """

    index: Tensor
    support: Tensor | None = None
    query: Tensor | None = None
    support_y: Tensor | None = None
    query_y: Tensor | None = None
    class_id: Tensor | None = None

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class TaskBatch(_Stacked):
    """`T` tasks of one size with their content: all that passes between data and models.

    In tasks of classes rows are grouped by class: the first support rows carry label 0, the next label 1, and so on.
    Inputs may be images ``(C, H, W)`` of uint8 or float, vectors or token ids; targets class labels or real values.

    Attributes:
        support_x: ``(T, S, ...)``
        support_y: ``(T, S)``
        query_x: ``(T, B, ...)``
        query_y: ``(T, B)``
        rows: where the content came from
    """

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor
    rows: TaskRows

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def index(self) -> Tensor:
        """``(T,)`` the tasks' numbers in their stream."""
        return self.rows.index

    @property
    def ways(self) -> int:
        """Classes of a task, ``N``; 1 where tasks have none."""
        return 1 if self.rows.class_id is None else self.rows.class_id.shape[-1]

    def with_inputs(self, support_x: Tensor, query_x: Tensor) -> "TaskBatch":
        """The same tasks with other inputs, for instance scaled or augmented ones."""
        return replace(self, support_x=support_x, query_x=query_x)


class RowBlock(NamedTuple):
    """Some rows of a part, for what looks at all of them rather than at tasks.

    Attributes:
        x: inputs ``(n, ...)``
        y: targets ``(n, ...)``; None where classes are the targets
        unit: ``(n,)`` the number of what each row's tasks are drawn by: its class, its user
    """

    x: Tensor
    y: Tensor | None
    unit: Tensor


MetaBatch = list[TaskBatch]
"""The tasks of one outer step: one entry unless their sizes vary."""


def count_tasks(batch: MetaBatch) -> int:
    """Tasks of a meta-batch, over its entries."""
    return sum(len(part) for part in batch)
