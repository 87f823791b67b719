"""Samplers: task number -> numbers of rows of a table, a pure function that touches no content."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import product
from math import log, prod
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from fewshot.errors import UserError, check_int
from fewshot.tasks.apart import draw_apart, fits_apart
from fewshot.tasks.batch import TaskRows, TaskSize
from fewshot.tasks.class_pool import ClassPool, draw_tasks
from fewshot.tasks.partition import Partition, partition, tasks_in
from fewshot.tasks.streams import IntArray, Key, stream_key, uniforms
from fewshot.tasks.table import BAR, CLASS, Table

Range = int | Sequence[int]
"""A number, or the smallest and the largest of those that are drawn uniformly."""

META_DATASET, REST = "meta_dataset", "rest"
LARGEST_SUPPORT, LARGEST_OF_CLASS = 500, 100
"""Of Meta-Dataset's procedure: rows in a support set, and what a class counts for in its size."""


@dataclass(frozen=True)
class Sampler(ABC):
    """Draws tasks from a table."""

    @property
    @abstractmethod
    def unit(self) -> str:
        """The column of what must have enough rows for a task."""

    @property
    def replacement(self) -> bool:
        """Whether rows of one task may be in others."""
        return True

    @property
    def apart(self) -> str | None:
        """The column of which no value is on both sides of a task; None where none is kept apart."""
        return None

    def tasks(self, table: Table) -> int | None:
        """How many tasks there are; None where there is no end."""
        return None

    @abstractmethod
    def draw(self, table: Table, key: Key, indices: Sequence[int]) -> list[TaskRows]:
        """The tasks `indices`, those of one size together: each is a pure function of (table, key, its index)."""

    @abstractmethod
    def check_sizes(self, prefix: str) -> None:
        """Refuses sizes that no table could have.

        Args:
            prefix: of the config's keys, ``data.train`` for instance.

        Raises:
            UserError: naming key, value and remedy.
        """

    @abstractmethod
    def unfit(self, table: Table) -> dict[str, int]:
        """The classes or groups that have too few or too many rows for a task: name -> rows that it has."""

    @abstractmethod
    def check(self, table: Table, prefix: str, part: str) -> None:
        """Refuses a table that not every task could be drawn from.

        Raises:
            UserError: naming key, value and remedy.
        """

    @property
    def description(self) -> dict[str, object]:
        """The size of a task in plain values, as the protocol of a result has it."""
        return {f.name: list(v) if isinstance(v := getattr(self, f.name), list | tuple) else v for f in fields(self)}


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
            members = _members(table, self._columns, f"{prefix}.within")
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
            return [self._meta_dataset(table, key, index) for index in indices]
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
        random = uniforms(_derived(key, "size"), indices, 2)
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

    def _meta_dataset(self, table: Table, key: Key, index: int) -> TaskRows:
        """One task by Meta-Dataset's procedure."""
        classes, (fewest, most) = table.columns[CLASS], _bounds(self.ways)
        groups, edges = _groups(table, self._columns, fewest)
        number = np.searchsorted(edges, uniforms(_derived(key, "group"), [index], 1)[0, 0], side="right")
        group, all_ways = groups[int(number)]
        ways = most = min(most, len(group))
        if not all_ways:
            ways = fewest + int(uniforms(_derived(key, "size"), [index], 1)[0, 0] * (most + 1 - fewest))
        chosen, _ = draw_tasks(ClassPool(classes.sizes, (group,)), TaskSize(ways, 1, 1), key, [index])
        available = classes.sizes[chosen[0]]
        queries = int(min(self.queries, (available // 2).min()))
        random = uniforms(_derived(key, "shots"), [index], 1 + ways)[0]
        beta, alpha = 1 - random[0], log(0.5) + random[1:] * (log(2) - log(0.5))
        counted = np.minimum(LARGEST_OF_CLASS, available - queries)
        support = min(LARGEST_SUPPORT, int(np.ceil(beta * counted).sum()))
        shares = np.exp(alpha) * available
        shares /= shares.sum()
        shots = np.minimum((shares * (support - ways)).astype(np.int64) + 1, available - queries)
        orders = np.split(uniforms(_derived(key, "rows"), [index], int(available.sum()))[0], np.cumsum(available)[:-1])
        rows = [classes.rows_of(int(number))[order.argsort()] for number, order in zip(chosen[0], orders, strict=True)]
        labels = np.arange(ways)
        return TaskRows(
            index=torch.tensor([index]),
            support=_tensor(np.concatenate([of_class[queries : queries + k] for of_class, k in zip(rows, shots, strict=True)])),
            query=_tensor(np.concatenate([of_class[:queries] for of_class in rows])),
            support_y=_tensor(labels.repeat(shots)),
            query_y=_tensor(labels.repeat(queries)),
            class_id=torch.from_numpy(chosen),
        )


@dataclass(frozen=True)
class GroupSampler(Sampler):
    """Tasks of groups: each value of a column (a user) is a task, whose support and query rows are drawn without replacement.

    Attributes:
        group: the column.
        shots: support rows of a task, or ``rest`` for all that are no queries.
        queries: query rows of a task, or ``rest`` for all that are no support rows.
        once: task `i` is group `i`, and there are as many tasks as groups; else groups are drawn uniformly, without end.
        rows: the smallest and the largest number of rows of a group that is a task (13 and 100 of Lee et al. 2019); None takes
            all groups that have enough.
    """

    group: str
    shots: int | Literal["rest"]
    queries: int | Literal["rest"]
    once: bool = False
    rows: Sequence[int] | None = None

    @property
    def unit(self) -> str:
        return self.group

    @property
    def replacement(self) -> bool:
        return not self.once

    def tasks(self, table: Table) -> int | None:
        return len(table.columns[self.group].names) if self.once else None

    def check_sizes(self, prefix: str) -> None:
        for name, value in (("shots", self.shots), ("queries", self.queries)):
            if value != REST:
                check_int(f"{prefix}.{name}", value, least=1)
        if self.shots == self.queries == REST:
            raise UserError(f"{prefix}.shots=rest and {prefix}.queries=rest leave open which rows are which; give one a number")
        if self.rows is not None and (len(self.rows) != 2 or not 1 <= self.rows[0] <= self.rows[1]):
            raise UserError(f"{prefix}.rows={list(self.rows)} is no range; give [smallest, largest]")

    def unfit(self, table: Table) -> dict[str, int]:
        groups = table.columns[self.group]
        needed = sum(1 if count == REST else int(count) for count in (self.shots, self.queries))
        least, most = self.rows or (needed, len(table))
        sizes = zip(groups.names, groups.sizes.tolist(), strict=True)
        return {name: size for name, size in sizes if not max(needed, least) <= size <= most}

    def check(self, table: Table, prefix: str, part: str) -> None:
        groups, unfit = table.column(self.group, f"{prefix}.group"), self.unfit(table)
        if unfit:
            name = min(unfit, key=lambda name: unfit[name])
            between = f", and {prefix}.rows={list(self.rows)}" if self.rows else ""
            raise UserError(
                f"{prefix}.shots={self.shots} and {prefix}.queries={self.queries}{between} do not fit {self.group} {name} of "
                f"the {part} split, which has {unfit[name]} rows; choose others, or leave such groups out ({len(unfit)} of "
                f"{len(groups.names)}) with data.skip_small_classes=true"
            )

    def draw(self, table: Table, key: Key, indices: Sequence[int]) -> list[TaskRows]:
        groups = table.columns[self.group]
        chosen = [int(u * len(groups.names)) for u in uniforms(_derived(key, "group"), indices, 1)[:, 0]]
        by_size: dict[int, list[tuple[int, IntArray]]] = {}
        for index, number in zip(indices, list(indices) if self.once else chosen, strict=True):
            rows = groups.rows_of(number)
            rows = rows[uniforms(_derived(key, "rows"), [index], len(rows))[0].argsort()]
            if REST not in (self.shots, self.queries):
                rows = rows[: int(self.shots) + int(self.queries)]
            by_size.setdefault(len(rows), []).append((index, rows))
        found = []
        for size, tasks in by_size.items():
            drawn = torch.from_numpy(np.stack([rows for _, rows in tasks]))
            shots = size - int(self.queries) if self.shots == REST else int(self.shots)
            found.append(TaskRows(torch.tensor([index for index, _ in tasks]), drawn[:, :shots], drawn[:, shots:]))
        return found

    @property
    def description(self) -> dict[str, object]:
        return {"ways": 1, **super().description}


@lru_cache(maxsize=64)
def _pool(table: Table, within: tuple[str, ...], ways: int) -> ClassPool:
    """The classes that tasks are drawn from."""
    sizes = table.columns[CLASS].sizes
    if not within:
        return ClassPool.of(sizes)
    (column,) = within
    names = table.columns[column].names
    return ClassPool.of(sizes, [names[value] for value in table.by_class(column, "within")]).with_room_for(ways)


def _members(table: Table, within: tuple[str, ...], key: str) -> dict[tuple[str, ...], list[int]]:
    """The classes with each value of a column, below each value of the columns before it."""
    members: dict[tuple[str, ...], list[int]] = {}
    names = [[table.columns[by].names[value] for value in table.by_class(by, key)] for by in within]
    for number, values in enumerate(zip(*names, strict=True) if names else [()] * len(table.classes)):
        for path in product(*(value.split(BAR) for value in values)):
            members.setdefault(path, []).append(number)
    return members


@lru_cache(maxsize=64)
def _groups(table: Table, within: tuple[str, ...], ways: int) -> tuple[list[tuple[IntArray, bool]], npt.NDArray[np.float64]]:
    """The groups of at least `ways` classes that tasks are drawn from, and up to which number in [0, 1) each is drawn.

    Each value of the first column is as likely as the others; below it, each value of the next one; and so on. Beside each
    group: whether a task takes all its classes, as where groups overlap.
    """
    members = _members(table, within, "within")
    kept = {path: np.array(classes) for path, classes in sorted(members.items()) if len(classes) >= ways}
    counts = Counter((path[:-1], number) for path, classes in members.items() for number in classes)
    overlapping = {above for (above, _), count in counts.items() if count > 1}
    shares = [
        1 / prod(len({other[depth] for other in kept if other[:depth] == path[:depth]}) for depth in range(len(path)))
        for path in kept
    ]
    edges = np.cumsum(shares)
    edges[-1] = 1.0  # not a rounding error less
    return [(classes, path[:-1] in overlapping) for path, classes in kept.items()], edges


@lru_cache(maxsize=4)
def _partition(table: Table, within: tuple[str, ...], size: TaskSize, *key: int) -> Partition:
    """All tasks without replacement; computed once for a table."""
    return partition(_pool(table, within, size.ways), table.columns[CLASS], size, np.array(key, dtype=np.uint64))


def _bounds(value: Range | str) -> tuple[int, int]:
    """The smallest and the largest number; 1 of shots that go by what classes have."""
    if isinstance(value, str):
        return 1, 1
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _derived(key: Key, use: str) -> Key:
    """A stream of its own beside the one that fixed sizes draw from."""
    return stream_key(use, int(key[0]), int(key[1]))


def _tensor(values: IntArray) -> torch.Tensor:
    """Of one task."""
    return torch.from_numpy(values[None])


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
