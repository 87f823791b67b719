"""Tasks without replacement: a partition of rows into tasks, so that no row is in two of them."""

from dataclasses import dataclass

import numpy as np

from fewshot.tasks.batch import TaskSize
from fewshot.tasks.class_pool import ClassPool
from fewshot.tasks.streams import IntArray, Key, derived_key, uniforms
from fewshot.tasks.table import Column


@dataclass(frozen=True)
class Partition:
    """All tasks of one size that can be drawn without replacement, as many as there can be.

    Attributes:
        classes: ``(M, N)`` of each task.
        rows: ``(M, N, K+Q)`` of each class, support first.
    """

    classes: IntArray
    rows: IntArray


def partition(pool: ClassPool, classes: Column, size: TaskSize, key: Key) -> Partition:
    """Deals the rows of each class, shuffled, into blocks of K+Q, and blocks of different classes into tasks.

    Args:
        pool: which classes may meet; the tasks of its groups are mixed, so that any number of the first are as good.
        classes: of the rows.
        size: of every task.
        key: `stream_key` of (dataset, split, seed): tasks are a pure function of it.
    """
    blocks = pool.sizes // size.rows_per_class
    dealt = [
        members[_dealt(blocks[members], size.ways, derived_key(key, "partition", number))]
        for number, members in enumerate(pool.groups)
    ]
    of_tasks = np.concatenate(dealt)
    of_tasks = of_tasks[uniforms(derived_key(key, "partition order"), [0], len(of_tasks))[0].argsort(kind="stable")]
    shuffled: dict[int, IntArray] = {}
    for number in np.unique(of_tasks).tolist():
        rows = classes.rows_of(number)
        shuffled[number] = rows[uniforms(derived_key(key, "partition rows"), [number], len(rows))[0].argsort(kind="stable")]
    taken = dict.fromkeys(shuffled, 0)
    rows = np.empty((*of_tasks.shape, size.rows_per_class), dtype=np.int64)
    for place, number in np.ndenumerate(of_tasks):
        start = taken[int(number)]
        rows[place] = shuffled[int(number)][start : start + size.rows_per_class]
        taken[int(number)] = start + size.rows_per_class
    return Partition(of_tasks, rows)


def tasks_in(pool: ClassPool, size: TaskSize) -> int:
    """How many tasks a partition has."""
    blocks = pool.sizes // size.rows_per_class
    return sum(_most(blocks[members], size.ways) for members in pool.groups)


def _most(blocks: IntArray, ways: int) -> int:
    """The most tasks of different classes: the largest M with ``sum(min(blocks, M)) >= ways * M``."""
    tasks = int(blocks.sum()) // ways
    while (fewer := int(np.minimum(blocks, tasks).sum()) // ways) < tasks:
        tasks = fewer
    return tasks


def _dealt(blocks: IntArray, ways: int, key: Key) -> IntArray:
    """The classes of each task ``(M, N)``, drawn without replacement with chances that go by the blocks that a class has left.

    With R tasks to go, a class that has R blocks or more loses one for good where it is not taken. There is room for as many
    such losses as there are blocks too many: more of these classes must be taken.
    """
    tasks, left = _most(blocks, ways), blocks.copy()
    chosen = np.empty((tasks, ways), dtype=np.int64)
    random = np.log1p(-uniforms(key, range(tasks), len(blocks)))  # -Exp(1); the largest of these, over weights, are a fair draw
    for task in range(tasks):
        to_go = tasks - task
        order = np.where(left > 0, random[task] / np.maximum(left, 1), -np.inf).argsort(kind="stable")[::-1]
        urgent = order[left[order] >= to_go]
        spare = int(np.minimum(left, to_go).sum()) - ways * to_go
        first = urgent[: max(0, len(urgent) - spare)]
        rest = order[~np.isin(order, first)]
        chosen[task] = np.concatenate([first, rest])[:ways]
        left[chosen[task]] -= 1
    return chosen
