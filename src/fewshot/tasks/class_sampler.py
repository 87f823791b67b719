"""Tasks of classes: N ways with K support and Q query rows each, of one size or of several."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch

from fewshot.errors import UserError, check_int
from fewshot.tasks.apart import draw_apart, fits_apart
from fewshot.tasks.batch import TaskRows, TaskSize
from fewshot.tasks.class_pool import ClassPool, draw_tasks
from fewshot.tasks.meta_dataset_tasks import class_groups, meta_dataset_task
from fewshot.tasks.partition import Partition, partition, tasks_in
from fewshot.tasks.sampler import Range, Sampler
from fewshot.tasks.streams import IntArray, Key, derived_key, uniforms
from fewshot.tasks.table import CLASS, Table

META_DATASET = "meta_dataset"
"""Shots that differ by class, as in Meta-Dataset."""


@dataclass(frozen=True)
class ClassSampler(Sampler):
    """Tasks of classes: `ways` classes drawn uniformly without replacement, then rows within each class likewise.

    Where `ways` or `shots` are ranges, a task's size is drawn first. With ``shots=meta_dataset`` tasks are Meta-Dataset's
    (Triantafillou et al. 2020, section 3.2 and appendix): what a task is `within` is drawn first; then its ways, of which
    there are at most as many as that has classes. It has at most `queries` queries a class, the same for all classes and at
    most half of the smallest, and a support set of at most 500 rows in all, whose shots differ by class.

    Attributes:
        ways: classes in a task.
        shots: support rows of each class.
        queries: query rows of each class.
        within: a column of classes (alphabet); a task takes all its classes from one value, drawn uniformly. Of Meta-Dataset's
            tasks also several (dataset, alphabet), of which one after another is drawn. A class with several values, joined by
            bars (nodes of WordNet above it), is in the group of each, and a task takes all classes of such a group, or as many
            of them as `ways` allows.
        apart: a column of rows (patient); no value is on both sides of a task.
        replacement: whether rows of one task may be in others; false deals all rows into as many tasks as there can be, once.
    """

    ways: Range
    shots: Range | Literal["meta_dataset"]
    queries: int
    within: str | tuple[str, ...] | None = None
    apart: str | None = None
    replacement: bool = True

    @property
    def unit(self) -> str:
        return CLASS

    def tasks(self, table: Table) -> int | None:
        return None if self.replacement else tasks_in(_pool(table, self._columns, self.most_ways), self.size)

    @property
    def most_ways(self) -> int:
        """Classes of the largest task."""
        return self.ways if isinstance(self.ways, int) else self.ways[1]

    @property
    def size(self) -> TaskSize:
        """Of the largest task; of the smallest that a class must have room for where shots go by what classes have."""
        shots = _bounds(self.shots)[1]
        queries = 1 if self.shots == META_DATASET else self.queries
        return TaskSize(self.most_ways, shots, queries)

    def check_sizes(self, prefix: str) -> None:
        for name in ("ways", "shots", "queries"):
            value = getattr(self, name)
            if name == "shots" and value == META_DATASET:
                continue
            bounds = value if isinstance(value, list | tuple) and name != "queries" else [value]
            for number in bounds:
                check_int(f"{prefix}.{name}", number, least=1)
            if len(bounds) not in (1, 2) or bounds[0] > bounds[-1]:
                raise UserError(f"{prefix}.{name}={list(bounds)} is no range; give [smallest, largest]")
        if _bounds(self.ways)[0] < 2:
            raise UserError(f"{prefix}.ways={self.ways} leaves nothing to tell apart; choose 2 or more")
        if self.shots == META_DATASET and self.apart is not None:
            raise UserError(f"{prefix}.apart={self.apart} does not go with {prefix}.shots=meta_dataset; set a range of shots")
        if self.shots != META_DATASET and isinstance(self.within, tuple):
            raise UserError(f"{prefix}.within={list(self.within)} goes with {prefix}.shots=meta_dataset alone; give one column")
        if not self.replacement:
            self._check_partition(prefix)

    def _check_partition(self, prefix: str) -> None:
        """Rows are dealt once into tasks of one size."""
        if self.apart is not None:
            raise UserError(
                f"{prefix}.replacement=false does not go with {prefix}.apart={self.apart}: what may be on which side differs "
                "by task; set data.apart=null or data.eval.replacement=true"
            )
        for name in ("ways", "shots"):
            value = getattr(self, name)
            if not isinstance(value, int):
                shown = value if isinstance(value, str) else list(value)
                raise UserError(
                    f"{prefix}.replacement=false deals rows into tasks of one size, but {prefix}.{name}={shown}; choose one "
                    "number"
                )

    def unfit(self, table: Table) -> dict[str, int]:
        classes = table.columns[CLASS]
        sizes = dict(zip(classes.names, classes.sizes.tolist(), strict=True))
        return {name: size for name, size in sizes.items() if size < self.size.rows_per_class}

    def check(self, table: Table, prefix: str, part: str) -> None:
        size, classes = self.size, table.column(CLASS, prefix)
        needed = _bounds(self.ways)[0] if self.shots == META_DATASET else size.ways
        if needed > len(classes.names):
            raise UserError(
                f"{prefix}.ways={needed} but the {part} split has {len(classes.names)} classes; "
                f"choose {prefix}.ways<={len(classes.names)}"
            )
        if self._columns:
            members = class_groups(table, self._columns, f"{prefix}.within")
            largest = max(members, key=lambda path: len(members[path]))
            if (most := len(members[largest])) < needed:
                raise UserError(
                    f"{prefix}.ways={needed} with {prefix}.within={', '.join(self._columns)}, but the largest "
                    f"{self._columns[-1]} of the {part} split, {' '.join(largest)}, has {most} classes; "
                    f"choose {prefix}.ways<={most}"
                )
        small = self.unfit(table)
        if small:
            name = min(small, key=lambda name: small[name])
            raise UserError(
                f"{prefix}.shots={size.shots} and {prefix}.queries={size.queries} need {size.rows_per_class} rows a class, "
                f"but {name} of the {part} split has {small[name]}; choose {prefix}.shots+{prefix}.queries<={small[name]}, or "
                f"leave such classes out ({len(small)} of {len(classes.names)}) with data.skip_small_classes=true"
            )
        if self.apart is not None:
            of_rows = table.column(self.apart, f"{prefix}.apart").values
            for number, name in enumerate(classes.names):
                if not fits_apart(of_rows[classes.rows_of(number)], size):
                    raise UserError(
                        f"{prefix}.apart={self.apart}: class {name} of the {part} split cannot give {size.shots} support and "
                        f"{size.queries} query rows without one {self.apart} on both sides; choose fewer, or leave it out"
                    )

    @property
    def _columns(self) -> tuple[str, ...]:
        """What `within` names."""
        return () if self.within is None else (self.within,) if isinstance(self.within, str) else self.within

    def draw(self, table: Table, key: Key, indices: Sequence[int]) -> list[TaskRows]:
        if not len(indices):
            return []
        if self.shots == META_DATASET:
            ways = _bounds(self.ways)
            return [meta_dataset_task(table, self._columns, ways, self.queries, key, index) for index in indices]
        if not self.replacement:
            dealt, shots = _partition(table, self._columns, self.size, int(key[0]), int(key[1])), self.size.shots
            rows = dealt.rows[list(indices)]
            return [_of_classes(indices, dealt.classes[list(indices)], rows[:, :, :shots], rows[:, :, shots:])]
        sizes = self._sizes(table, key, indices)
        found = []
        for size in dict.fromkeys(sizes):  # in the order in which they come
            numbers = [index for index, of_task in zip(indices, sizes, strict=True) if of_task == size]
            found += self._draw(table, size, key, numbers)
        return found

    def _sizes(self, table: Table, key: Key, indices: Sequence[int]) -> list[TaskSize]:
        """Of each task, drawn where they vary."""
        ways, shots = _bounds(self.ways), _bounds(self.shots)
        if ways[0] == ways[1] and shots[0] == shots[1]:
            return [TaskSize(ways[0], shots[0], self.queries)] * len(indices)
        random = uniforms(derived_key(key, "size"), indices, 2)
        bounds = zip((ways, shots), random.T, strict=True)
        drawn = [(low + u * (high + 1 - low)).astype(np.int64).tolist() for (low, high), u in bounds]
        return [TaskSize(n, k, self.queries) for n, k in zip(*drawn, strict=True)]

    def _draw(self, table: Table, size: TaskSize, key: Key, indices: Sequence[int]) -> list[TaskRows]:
        classes, pool = table.columns[CLASS], _pool(table, self._columns, size.ways)
        if self.apart is not None:
            chosen, rows = draw_apart(pool, classes, table.columns[self.apart].values, size, key, indices)
        else:
            chosen, numbers = draw_tasks(pool, size, key, indices)
            rows = classes.rows[classes.starts[chosen][:, :, None] + numbers]
        return [_of_classes(indices, chosen, rows[:, :, : size.shots], rows[:, :, size.shots :])]


@lru_cache(maxsize=64)
def _pool(table: Table, within: tuple[str, ...], ways: int) -> ClassPool:
    """The classes that tasks are drawn from."""
    sizes = table.columns[CLASS].sizes
    if not within:
        return ClassPool.of(sizes)
    (column,) = within
    names = table.columns[column].names
    return ClassPool.of(sizes, [names[value] for value in table.by_class(column, "within")]).with_room_for(ways)


@lru_cache(maxsize=4)
def _partition(table: Table, within: tuple[str, ...], size: TaskSize, *key: int) -> Partition:
    """All tasks without replacement; computed once for a table."""
    return partition(_pool(table, within, size.ways), table.columns[CLASS], size, np.array(key, dtype=np.uint64))


def _bounds(value: Range | str) -> tuple[int, int]:
    """The smallest and the largest number; 1 of shots that go by what classes have."""
    if isinstance(value, str):
        return 1, 1
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _of_classes(indices: Sequence[int], classes: IntArray, support: IntArray, query: IntArray) -> TaskRows:
    """Tasks from their classes ``(T, N)``, support rows ``(T, N, K)`` and query rows ``(T, N, Q)``."""
    tasks, ways = classes.shape

    def labels(count: int) -> torch.Tensor:
        return torch.arange(ways).repeat_interleave(count).expand(tasks, -1).clone(memory_format=torch.contiguous_format)

    return TaskRows(
        index=torch.tensor(list(indices)),
        support=torch.from_numpy(support.reshape(tasks, -1)),
        query=torch.from_numpy(query.reshape(tasks, -1)),
        support_y=labels(support.shape[2]),
        query_y=labels(query.shape[2]),
        class_id=torch.from_numpy(classes),
    )
