"""Meta-batches of tasks, each a pure function of its number."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import Dataset

from fewshot.data.prepared import PreparedSplit
from fewshot.tasks.batch import TaskBatch, TaskSpec
from fewshot.tasks.samplers import ClassPool, draw_tasks
from fewshot.tasks.streams import stream_key, uniforms


@dataclass(frozen=True)
class Share:
    """Which part of each meta-batch a process takes: the `rank`-th of `of` parts, as equal as they can be."""

    rank: int = 0
    of: int = 1

    def part(self, indices: range) -> range:
        """This process's part of a meta-batch's task numbers."""
        cut = [len(indices) * rank // self.of for rank in (self.rank, self.rank + 1)]
        return indices[cut[0] : cut[1]]


class MetaBatches(Dataset[TaskBatch]):
    """Meta-batch `i` holds the tasks from ``i * size`` on, up to `total`: a pure function of `i`, whatever worker asks.

    Args:
        split: to draw from.
        spec: size of a task.
        stream: what names the stream of tasks (`stream_key`).
        size: tasks in a meta-batch, over all processes.
        total: tasks in all.
        within_group: take each task's classes from one group.
        share: which part of a meta-batch to return.
        shuffled_labels: deal the labels of each task anew among its images, so that there is nothing to learn: a control.
        with_images: gather them; else tasks hold the numbers of their images only (`ResidentImages`).
    """

    def __init__(
        self,
        split: PreparedSplit,
        spec: TaskSpec,
        stream: Sequence[str | int],
        size: int,
        total: int,
        within_group: bool = False,
        share: Share | None = None,
        shuffled_labels: bool = False,
        with_images: bool = True,
    ) -> None:
        self._split = split
        self._spec = spec
        self._key = stream_key(*stream)
        self._size = size
        self._total = total
        self._share = share or Share()
        self._with_images = with_images
        self._shuffle_key = stream_key("shuffled labels", *stream) if shuffled_labels else None
        self._labels_of_task = [torch.arange(spec.ways).repeat_interleave(n) for n in (spec.shots, spec.queries)]
        groups = [c.group for c in split.classes] if within_group else None
        self._pool = ClassPool.of(split.sizes, groups).with_room_for(spec.ways)

    def __len__(self) -> int:
        return -(-self._total // self._size)

    def __getitem__(self, i: int) -> TaskBatch:
        if not 0 <= i < len(self):
            raise IndexError(i)
        indices = self._share.part(range(i * self._size, min((i + 1) * self._size, self._total)))
        classes, images = draw_tasks(self._pool, self._spec, self._key, indices)
        rows = self._split.starts[classes][:, :, None] + images
        shots, queries, ways = self._spec.shots, self._spec.queries, self._spec.ways
        support = torch.from_numpy(rows[:, :, :shots].reshape(-1, ways * shots))
        query = torch.from_numpy(rows[:, :, shots:].reshape(-1, ways * queries))
        return TaskBatch(
            support_x=self._images(support),
            support_y=self._labels(indices, part=0),
            query_x=self._images(query),
            query_y=self._labels(indices, part=1),
            index=torch.arange(indices.start, indices.stop),
            support_id=support,
            query_id=query,
            class_id=torch.from_numpy(classes),
        )

    def _images(self, rows: torch.Tensor) -> torch.Tensor:
        if not self._with_images:
            return torch.empty(0, dtype=torch.uint8)
        return torch.from_numpy(self._split.images.take(rows, axis=0))

    def _labels(self, indices: range, part: int) -> torch.Tensor:
        """Labels of the tasks' support (`part` 0, ``(T, N*K)``) or query sets (1, ``(T, N*Q)``), by class unless shuffled."""
        labels = self._labels_of_task[part].expand(len(indices), -1).clone(memory_format=torch.contiguous_format)
        if self._shuffle_key is None:
            return labels
        random = uniforms(self._shuffle_key, [2 * index + part for index in indices], labels.shape[1])
        return labels.gather(1, torch.from_numpy(random.argsort(axis=1)))
