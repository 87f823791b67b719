"""Mini-batches of the support set, for inner steps that do not use all of it."""

from collections.abc import Sequence
from math import ceil

import torch
from torch import Tensor

from fewshot.tasks.streams import stream_key, uniforms


def shuffled_rows(index: Sequence[int], rows: int, size: int, steps: int) -> Tensor:
    """Rows of the mini-batch of each step of each task: shuffled epochs over the support set, one after another.

    A pure function: task number `i` has the same mini-batches in any process, at any time.

    Args:
        index: ``(T,)`` numbers of the tasks.
        rows: number of rows of the support set.
        size: rows of a mini-batch; one larger than `rows` has some rows more than once.
        steps: number of mini-batches of a task.

    Returns:
        ``(T, steps, size)`` row numbers.
    """
    decks = ceil(steps * size / rows)
    keys = torch.from_numpy(uniforms(stream_key("inner batches", rows), index, decks * rows))
    return keys.view(len(index), decks, rows).argsort(dim=-1).flatten(1)[:, : steps * size].view(len(index), steps, size)
