"""Queries of classes that a task does not have, which a learner is to recognise as unknown."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from fewshot.errors import UserError
from fewshot.tasks.batch import TaskRows
from fewshot.tasks.streams import stream_key, uniforms
from fewshot.tasks.table import CLASS, Table


def draw_unknown(
    table: Table, rows: TaskRows, ways: int, stream: Sequence[str | int], apart: str | None = None
) -> torch.Tensor:
    """Rows ``(T, ways * Q)`` of `ways` classes beside those of each task, as many of each as the task has queries of a class.

    A pure function of the stream and the task's number; the task itself stays as it is. Where a class has fewer rows, all
    classes have so few; one whose rows are kept apart may have fewer still, so that several tasks are no tensor.

    Args:
        table: of the part that tasks are drawn from.
        rows: of tasks of classes.
        ways: unknown classes of a task.
        stream: what names the stream of tasks.
        apart: a column of which no value is among the support set and these rows.

    Raises:
        UserError: there are not so many other classes.
    """
    if rows.class_id is None or rows.query is None:
        raise UserError(f"data.eval.unknown_ways={ways} but these tasks have no classes; set it to 0")
    classes, own = table.columns[CLASS], rows.class_id.shape[1]
    require_classes(len(classes.names), own, ways)
    queries = min(rows.query.shape[1] // own, int(classes.sizes.min()))
    key, found = stream_key("unknown", *stream), []
    for task, taken in zip(rows, rows.class_id.numpy(), strict=True):
        index = int(task.index)
        others = np.setdiff1d(np.arange(len(classes.names)), taken)
        chosen = others[uniforms(key, [2 * index], len(others))[0].argsort()[:ways]]
        random = uniforms(key, [2 * index + 1], int(classes.sizes[chosen].sum()))[0]
        parts = np.split(random, np.cumsum(classes.sizes[chosen])[:-1])
        ordered = [classes.rows_of(int(one))[part.argsort()] for one, part in zip(chosen, parts, strict=True)]
        free = ~beside_support(table, table, task, apart)
        found.append(np.concatenate([of_class[free[of_class]][:queries] for of_class in ordered]))
    return torch.from_numpy(np.stack(found))


def require_classes(classes: int, own: int, ways: int) -> None:
    """Refuses unknown ways for which a part has too few classes.

    Args:
        classes: of the part.
        own: of a task.
        ways: unknown ones.

    Raises:
        UserError: there are too few classes.
    """
    if classes < own + ways:
        raise UserError(
            f"data.eval.unknown_ways={ways} but tasks take {own} of the {classes} classes; choose at most {classes - own}"
        )


def beside_support(table: Table, others: Table, task: TaskRows, apart: str | None) -> npt.NDArray[np.bool_]:
    """Of each row of a table, whether a row of a task's support set has its value of a column; of none without that column.

    Args:
        table: that the task is drawn from.
        others: of the rows.
        task: one, without its leading ``T``.
        apart: the column; None has no row beside another.
    """
    if apart is None or apart not in others.columns or task.support is None:
        return np.zeros(len(others), dtype=bool)
    of_task, of_others = table.columns[apart], others.columns[apart]
    given = {of_task.names[value] for value in of_task.values[task.support.numpy()]}
    return np.array([name in given for name in of_others.names])[of_others.values]
