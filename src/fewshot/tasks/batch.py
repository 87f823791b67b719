"""Tasks (episodes): what one is made of.

Shapes: ``T`` tasks in a meta-batch, ``N`` ways, ``K`` shots, ``Q`` queries a class, ``C, H, W`` image.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from fewshot.errors import UserError, whole


@dataclass(frozen=True)
class TaskSpec:
    """The size of a task: `ways` classes, each with `shots` support images and `queries` query images."""

    ways: int
    shots: int
    queries: int

    def __post_init__(self) -> None:
        for field in fields(self):
            whole(field.name, getattr(self, field.name), least=1)
        if self.ways < 2:
            raise UserError(f"ways={self.ways} leaves nothing to tell apart; choose 2 or more")

    @property
    def images_per_class(self) -> int:
        """Images that a task takes from each of its classes."""
        return self.shots + self.queries


@dataclass(frozen=True)
class TaskBatch:
    """One meta-batch of `T` tasks: all that passes between data and models.

    Within a task, rows are grouped by class: the first `K` support rows carry label 0, the next `K` label 1, and so on.
    Inputs may be images ``(C, H, W)`` of uint8 or float, vectors or token ids; targets class labels or real values.

    Attributes:
        support_x: ``(T, N*K, ...)``
        support_y: ``(T, N*K)``
        query_x: ``(T, N*Q, ...)``
        query_y: ``(T, N*Q)``
        index: ``(T,)`` the tasks' numbers in their stream
        support_id: ``(T, N*K)`` rows of the prepared split that the support images came from
        query_id: ``(T, N*Q)`` likewise
        class_id: ``(T, N)`` the number of each label's class among the classes of its split; None where tasks have no classes
    """

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor
    index: Tensor
    support_id: Tensor
    query_id: Tensor
    class_id: Tensor | None = None

    def __len__(self) -> int:
        return len(self.index)

    def __iter__(self) -> Iterator["TaskBatch"]:
        """The tasks one by one, each without its leading ``T``."""
        for i in range(len(self)):
            yield self._map(itemgetter(i))

    def slice(self, start: int, stop: int) -> "TaskBatch":
        """Tasks `start` to `stop` (left out) of the meta-batch."""
        return self._map(itemgetter(slice(start, stop)))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "TaskBatch":
        """The same tasks on `device` (Lightning calls this)."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "TaskBatch":
        """The same tasks in page-locked memory (the DataLoader calls this)."""
        return self._map(lambda tensor: tensor.pin_memory())

    def with_inputs(self, support_x: Tensor, query_x: Tensor) -> "TaskBatch":
        """The same tasks with other inputs, for instance scaled or augmented ones."""
        return replace(self, support_x=support_x, query_x=query_x)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "TaskBatch":
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        mapped: dict[str, Any] = {name: None if tensor is None else function(tensor) for name, tensor in tensors.items()}
        return TaskBatch(**mapped)
