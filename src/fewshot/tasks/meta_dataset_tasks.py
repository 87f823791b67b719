"""Tasks by Meta-Dataset's procedure: ways, shots and queries vary, and shots differ by class.

Triantafillou et al. (2020), "Meta-Dataset: A Dataset of Datasets for Learning to Learn from Few Examples", section 3.2 and
appendix.
"""

from collections import Counter
from functools import lru_cache
from itertools import product
from math import log, prod

import numpy as np
import numpy.typing as npt
import torch

from fewshot.tasks.batch import TaskRows, TaskSize
from fewshot.tasks.class_pool import ClassPool, draw_tasks
from fewshot.tasks.streams import IntArray, Key, derived_key, uniforms
from fewshot.tasks.table import BAR, CLASS, Table

LARGEST_SUPPORT = 500
"""Rows in a support set, at the most."""
LARGEST_OF_CLASS = 100
"""Rows that a class counts for in the size of a support set, at the most."""


def meta_dataset_task(
    table: Table, within: tuple[str, ...], ways: tuple[int, int], queries: int, key: Key, index: int
) -> TaskRows:
    """One task: a group of classes is drawn, then its ways, its classes, its shots, its rows.

    Args:
        table: of the part that tasks are drawn from.
        within: columns of classes (dataset, alphabet), of which one after another is drawn.
        ways: the fewest and the most; at most as many as the group has. A group that overlaps with others gives all.
        queries: of each class, at the most.
        key: `stream_key` of (dataset, split, seed).
        index: the task's number.
    """
    classes, (fewest, most) = table.columns[CLASS], ways
    groups, edges = _groups(table, within, fewest)
    number = np.searchsorted(edges, uniforms(derived_key(key, "group"), [index], 1)[0, 0], side="right")
    group, all_ways = groups[int(number)]
    size = most = min(most, len(group))
    if not all_ways:
        size = fewest + int(uniforms(derived_key(key, "size"), [index], 1)[0, 0] * (most + 1 - fewest))
    chosen, _ = draw_tasks(ClassPool(classes.sizes, (group,)), TaskSize(size, 1, 1), key, [index])
    available = classes.sizes[chosen[0]]
    queries, shots = _counts(available, queries, uniforms(derived_key(key, "shots"), [index], 1 + size)[0])
    orders = np.split(uniforms(derived_key(key, "rows"), [index], int(available.sum()))[0], np.cumsum(available)[:-1])
    rows = [classes.rows_of(int(number))[order.argsort()] for number, order in zip(chosen[0], orders, strict=True)]
    support = [of_class[queries : queries + k] for of_class, k in zip(rows, shots, strict=True)]
    labels = np.arange(size)
    return TaskRows(
        index=torch.tensor([index]),
        support=torch.from_numpy(np.concatenate(support)[None]),
        query=torch.from_numpy(np.concatenate([of_class[:queries] for of_class in rows])[None]),
        support_y=torch.from_numpy(labels.repeat(shots)[None]),
        query_y=torch.from_numpy(labels.repeat(queries)[None]),
        class_id=torch.from_numpy(chosen),
    )


def _counts(available: IntArray, most_queries: int, uniform: npt.NDArray[np.float64]) -> tuple[int, IntArray]:
    """Query rows of each class, the same for all, and support rows ``(N,)``.

    Args:
        available: ``(N,)`` rows that each class has.
        most_queries: of each class; at most half of the smallest class are taken.
        uniform: ``(1 + N,)`` numbers in [0, 1), of the support set's size and of each class's share in it.
    """
    queries = int(min(most_queries, (available // 2).min()))
    beta, alpha = 1 - uniform[0], log(0.5) + uniform[1:] * (log(2) - log(0.5))
    counted = np.minimum(LARGEST_OF_CLASS, available - queries)
    support = min(LARGEST_SUPPORT, int(np.ceil(beta * counted).sum()))
    weights = np.exp(alpha) * available.astype(np.float64)
    shares = weights / weights.sum()
    return queries, np.minimum((shares * (support - len(available))).astype(np.int64) + 1, available - queries)


def class_groups(table: Table, within: tuple[str, ...], key: str) -> dict[tuple[str, ...], list[int]]:
    """The numbers of the classes with each value of a column, below each value of the columns before it.

    Args:
        within: names of columns of classes; with none, all classes are one group.
        key: of the config, that asks for the columns.

    Raises:
        UserError: there is no such column, or rows of a class differ in it.
    """
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
    members = class_groups(table, within, "within")
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
