"""Which support images an inner step sees that does not see them all."""

from collections.abc import Sequence
from math import ceil

import torch
from torch import Tensor

from fewshot.tasks.streams import stream_key, uniforms


def shuffled_rows(index: Sequence[int], rows: int, size: int, steps: int) -> Tensor:
    """Rows for each step of each task, dealt out in turn from a shuffled deck, and anew from another when that is used up.

    A pure function: task number `i` has the same mini-batches whatever process adapts to it, and whenever.

    Args:
        index: ``(T,)`` numbers of the tasks.
        rows: that there are.
        size: of a mini-batch; a batch larger than `rows` has rows more than once.
        steps: mini-batches of a task.

    Returns:
        ``(T, steps, size)`` row numbers.
    """
    decks = ceil(steps * size / rows)
    keys = torch.from_numpy(uniforms(stream_key("inner batches", rows), index, decks * rows))
    return keys.view(len(index), decks, rows).argsort(dim=-1).flatten(1)[:, : steps * size].view(len(index), steps, size)
