"""Which classes and rows of each a task of one size consists of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from fewshot.tasks.batch import TaskSize
from fewshot.tasks.streams import IntArray, Key, sample_without_replacement, uniforms


@dataclass(frozen=True)
class ClassPool:
    """The classes that tasks are drawn from: how many images each has, and which of them may meet in one task.

    Attributes:
        sizes: ``(classes,)`` images in each class.
        groups: members of each group, as class numbers. A task takes all its classes from one group, drawn uniformly; one
            group of all classes leaves them free to meet.
    """

    sizes: IntArray
    groups: tuple[IntArray, ...]

    @staticmethod
    def of(sizes: IntArray, group_names: Sequence[str] | None = None) -> "ClassPool":
        """A pool of all classes, or, with the group of each class given, of tasks within one group."""
        if group_names is None:
            return ClassPool(sizes, (np.arange(len(sizes)),))
        names = np.asarray(group_names)
        return ClassPool(sizes, tuple(np.flatnonzero(names == name) for name in sorted(set(group_names))))

    @cached_property
    def members(self) -> IntArray:
        """The groups' members, one group after another."""
        return np.concatenate(self.groups)

    @cached_property
    def group_sizes(self) -> IntArray:
        """How many members each group has, ``(groups,)``."""
        return np.array([len(group) for group in self.groups])

    @cached_property
    def group_starts(self) -> IntArray:
        """Where each group begins among `members`, ``(groups,)``."""
        return np.cumsum(self.group_sizes) - self.group_sizes

    def with_room_for(self, ways: int) -> "ClassPool":
        """The pool without the groups that have fewer than `ways` classes."""
        return replace(self, groups=tuple(group for group in self.groups if len(group) >= ways))


def draw_tasks(pool: ClassPool, size: TaskSize, key: Key, indices: Sequence[int] | IntArray) -> tuple[IntArray, IntArray]:
    """Which classes and images the tasks `indices` consist of: a pure function that touches no image.

    Classes are drawn uniformly without replacement, then images within each class likewise; support and query are disjoint
    because they are different positions of one draw.

    Args:
        pool: groups with fewer than `size.ways` classes must have been left out (`ClassPool.with_room_for`).
        key: `stream_key` of (dataset, split, seed).
        indices: ``(T,)`` task numbers.

    Returns:
        classes ``(T, N)``, and for each the numbers of its images within the class ``(T, N, K+Q)``, support first.
    """
    tasks, ways, rows = len(indices), size.ways, size.rows_per_class
    uniform = uniforms(key, indices, 1 + ways + ways * rows)
    group = (uniform[:, 0] * len(pool.groups)).astype(np.int64)
    chosen = sample_without_replacement(pool.group_sizes[group], uniform[:, 1 : 1 + ways])
    classes = pool.members[pool.group_starts[group][:, None] + chosen]
    within = sample_without_replacement(pool.sizes[classes].reshape(-1), uniform[:, 1 + ways :].reshape(tasks * ways, rows))
    return classes, within.reshape(tasks, ways, rows)
