"""Tasks in which no value of a column (a patient, a source picture) is on both sides."""

from collections.abc import Sequence

import numpy as np

from fewshot.errors import UserError
from fewshot.tasks.batch import TaskSize
from fewshot.tasks.class_pool import ClassPool, draw_tasks
from fewshot.tasks.streams import IntArray, Key, derived_key, uniforms
from fewshot.tasks.table import Column

ATTEMPTS = 200
"""Orders of rows that are tried for a task; in the second half of them a value's rows stay together, which fits more often."""
SUPPORT, QUERY = 0, 1


def fits_apart(values: IntArray, size: TaskSize) -> bool:
    """Whether a class whose rows have these values can be divided: values with enough rows for support, others for queries."""
    reachable = {0}
    for count in np.unique(values, return_counts=True)[1].tolist():
        reachable |= {total + count for total in reachable}
    return any(size.shots <= total <= len(values) - size.queries for total in reachable)


def draw_apart(
    pool: ClassPool, classes: Column, values: IntArray, size: TaskSize, key: Key, indices: Sequence[int]
) -> tuple[IntArray, IntArray]:
    """The tasks `indices`: their classes ``(T, N)`` and rows ``(T, N, K+Q)``, support first.

    A row is drawn uniformly among those of its class whose value is not on the other side, class after class, first the
    support of all classes, then the queries; where that fails, another order is tried.

    Args:
        values: ``(rows,)`` of the column that is kept apart.

    Raises:
        UserError: no order fits.
    """
    chosen, _ = draw_tasks(pool, TaskSize(size.ways, 1, 1), key, indices)
    rows = [_draw_one(of_task, classes, values, size, key, index) for of_task, index in zip(chosen, indices, strict=True)]
    return chosen, np.array(rows, dtype=np.int64)


def _draw_one(chosen: IntArray, classes: Column, values: IntArray, size: TaskSize, key: Key, index: int) -> list[list[int]]:
    of_class = [classes.rows_of(int(number)) for number in chosen]
    starts = np.cumsum([0, *(len(rows) for rows in of_class)])
    own = derived_key(key, "apart", index)
    for attempt in range(ATTEMPTS):
        random = uniforms(own, [attempt], int(starts[-1]))[0]
        orders = []
        for rows, start, stop in zip(of_class, starts, starts[1:], strict=False):
            by: IntArray = random[start:stop].argsort()
            if attempt >= ATTEMPTS // 2:
                first = {value: place for place, value in reversed(list(enumerate(values[rows[by]].tolist())))}
                by = by[np.argsort([first[value] for value in values[rows[by]].tolist()], kind="stable")]
            orders.append(rows[by].tolist())
        found, failed = _divided(orders, values, size)
        if not failed:
            return found
    raise UserError(
        f"task {index}: {size.shots} support and {size.queries} query rows a class cannot be kept apart for class "
        f"{classes.names[int(chosen[failed - 1])]}; choose fewer, or fewer ways"
    )


def _divided(orders: list[list[int]], values: IntArray, size: TaskSize) -> tuple[list[list[int]], int]:
    """Rows of each class, support first, taken in the order given; and the class that had too few, counted from 1, or 0."""
    side: dict[int, int] = {}
    taken: list[list[int]] = [[] for _ in orders]
    for mine, count in ((SUPPORT, size.shots), (QUERY, size.queries)):
        for number, (rows, of_class) in enumerate(zip(orders, taken, strict=True)):
            needed = len(of_class) + count
            for row in rows:
                if len(of_class) == needed:
                    break
                if side.setdefault(int(values[row]), mine) == mine:
                    of_class.append(row)
            if len(of_class) < needed:
                return taken, number + 1
    return taken, 0
