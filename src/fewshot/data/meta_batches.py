"""Meta-batches of tasks, each a pure function of its number."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fewshot.data.content import Content
from fewshot.tasks.batch import TaskBatch, TaskRows
from fewshot.tasks.sampler import Sampler
from fewshot.tasks.streams import stream_key, uniforms

Travelling = list[TaskBatch | TaskRows]
"""A meta-batch on its way to the device; content that is there already does not travel, but the numbers of its rows."""


@dataclass(frozen=True)
class Share:
    """Which part of each meta-batch a process takes: the `rank`-th of `of` parts, as equal as they can be."""

    rank: int = 0
    of: int = 1

    def part(self, indices: range) -> range:
        """This process's part of a meta-batch's task numbers."""
        cut = [len(indices) * rank // self.of for rank in (self.rank, self.rank + 1)]
        return indices[cut[0] : cut[1]]


class Tasks(ABC):
    """Task number -> task: what drawn and computed tasks have in common."""

    @abstractmethod
    def draw(self, indices: Sequence[int]) -> list[TaskBatch]:
        """The tasks `indices`, those of one size together; each is a pure function of its number."""

    def travelling(self, indices: Sequence[int]) -> Travelling:
        """The same tasks as a data loader hands them over."""
        return list(self.draw(indices))


class DrawnTasks(Tasks):
    """Tasks whose rows a sampler draws.

    Args:
        content: of the part that tasks are drawn from.
        sampler: draws them.
        stream: what names the stream of tasks (`stream_key`).
        shuffled_labels: deal the labels of each task anew among its rows, so that there is nothing to learn: a control.
        travels: whether content travels; else it is on the device already.
    """

    def __init__(
        self,
        content: Content,
        sampler: Sampler,
        stream: Sequence[str | int],
        shuffled_labels: bool = False,
        travels: bool = True,
    ) -> None:
        self._content, self._sampler, self._travels = content, sampler, travels
        self._key = stream_key(*stream)
        self._shuffle_key = stream_key("shuffled labels", *stream) if shuffled_labels else None

    def rows(self, indices: Sequence[int]) -> list[TaskRows]:
        """Which rows the tasks consist of."""
        drawn = self._sampler.draw(self._content.table, self._key, indices)
        if self._shuffle_key is None:
            return drawn
        return [
            replace(rows, support_y=self._dealt(rows.support_y, rows, 0), query_y=self._dealt(rows.query_y, rows, 1))
            for rows in drawn
        ]

    def draw(self, indices: Sequence[int]) -> list[TaskBatch]:
        return [self._content.gather(rows) for rows in self.rows(indices)]

    def travelling(self, indices: Sequence[int]) -> Travelling:
        return list(self.draw(indices) if self._travels else self.rows(indices))

    def _dealt(self, labels: Tensor | None, rows: TaskRows, part: int) -> Tensor:
        """Labels of the support (`part` 0) or query sets (1) in another order."""
        if labels is None or self._shuffle_key is None:
            raise ValueError("only labels can be dealt anew")
        random = uniforms(self._shuffle_key, [2 * index + part for index in rows.index.tolist()], labels.shape[1])
        return labels.gather(1, torch.from_numpy(random.argsort(axis=1)))


class MetaBatches(Dataset[Travelling]):
    """Meta-batch `i` holds the tasks from ``i * size`` on, up to `total`: a pure function of `i`, whichever worker reads it.

    Args:
        tasks: task number -> task.
        size: tasks in a meta-batch, over all processes.
        total: tasks in all.
        share: which part of a meta-batch to return.
    """

    def __init__(self, tasks: Tasks, size: int, total: int, share: Share | None = None) -> None:
        self._tasks, self._size, self._total = tasks, size, total
        self._share = share or Share()

    def __len__(self) -> int:
        return -(-self._total // self._size)

    def __getitem__(self, i: int) -> Travelling:
        return self._tasks.travelling(self._indices(i))

    def meta_batch(self, i: int) -> list[TaskBatch]:
        """Meta-batch `i` with its content, in the main memory."""
        return self._tasks.draw(self._indices(i))

    def _indices(self, i: int) -> range:
        if not 0 <= i < len(self):
            raise IndexError(i)
        return self._share.part(range(i * self._size, min((i + 1) * self._size, self._total)))
