"""Queries of classes that a task does not have: what a learner is to call none of its own."""

from collections.abc import Sequence

import numpy as np
import torch

from fewshot.errors import UserError
from fewshot.tasks.batch import TaskRows
from fewshot.tasks.streams import stream_key, uniforms
from fewshot.tasks.table import CLASS, Table


def draw_unknown(table: Table, rows: TaskRows, ways: int, stream: Sequence[str | int]) -> torch.Tensor:
    """Rows ``(T, ways * Q)`` of `ways` classes beside those of each task, as many of each as the task has queries of a class.

    A pure function of the stream and the task's number; the task itself stays as it is. Where a class has fewer rows, all
    classes have so few.

    Args:
        table: of the part that tasks are drawn from.
        rows: of tasks of classes.
        ways: unknown classes of a task.
        stream: what names the stream of tasks.

    Raises:
        UserError: there are not so many other classes.
    """
    if rows.class_id is None or rows.query is None:
        raise UserError(f"data.eval.unknown_ways={ways} but these tasks have no classes; set it to 0")
    classes, own = table.columns[CLASS], rows.class_id.shape[1]
    if len(classes.names) < own + ways:
        raise UserError(
            f"data.eval.unknown_ways={ways} but tasks take {own} of the {len(classes.names)} classes; choose at most "
            f"{len(classes.names) - own}"
        )
    queries = min(rows.query.shape[1] // own, int(classes.sizes.min()))
    key, found = stream_key("unknown", *stream), []
    for index, taken in zip(rows.index.tolist(), rows.class_id.numpy(), strict=True):
        others = np.setdiff1d(np.arange(len(classes.names)), taken)
        chosen = others[uniforms(key, [2 * index], len(others))[0].argsort()[:ways]]
        random = uniforms(key, [2 * index + 1], int(classes.sizes[chosen].sum()))[0]
        parts = np.split(random, np.cumsum(classes.sizes[chosen])[:-1])
        drawn = [classes.rows_of(int(one))[part.argsort()[:queries]] for one, part in zip(chosen, parts, strict=True)]
        found.append(np.concatenate(drawn))
    return torch.from_numpy(np.stack(found))
