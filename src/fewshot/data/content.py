"""The content of one part of the data, train, val or test: arrays that rows are gathered from, on whichever device they are."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewshot.data.features import Features
from fewshot.data.prepared import PreparedSplit
from fewshot.tasks.batch import TaskBatch, TaskRows
from fewshot.tasks.streams import IntArray
from fewshot.tasks.table import Table


@dataclass(frozen=True)
class Arrays:
    """Inputs ``(n, ...)`` and, where they are not labels, targets ``(n, ...)``; of the rows `rows` where these are given."""

    x: Tensor
    y: Tensor | None = None
    rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x if self.rows is None else self.rows)

    @property
    def bytes(self) -> int:
        """That the rows take."""
        return len(self) * sum(array[0].nbytes for array in (self.x, self.y) if array is not None)

    def take(self, name: str, numbers: Tensor) -> Tensor:
        """Rows of ``x`` or ``y`` by their numbers ``(m,)``."""
        array: Tensor = getattr(self, name)
        return array.index_select(0, numbers if self.rows is None else self.rows[numbers])


@dataclass(frozen=True)
class Content:
    """What the tasks of a part consist of. Rows are numbered through all pieces, as in the table.

    Attributes:
        table: of the part's rows.
        pieces: prepared arrays and which of their rows belong to the part, one piece after another; None takes all.
        features: of each piece, which take the place of its inputs; None where networks see the inputs themselves.
    """

    table: Table
    pieces: tuple[tuple[PreparedSplit, IntArray | None], ...]
    features: tuple[Features, ...] | None = None

    @property
    def sha256(self) -> str:
        """Of the bytes that the part's rows are among."""
        digests = [piece.images_sha256 for piece, _ in self.pieces]
        return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()

    @property
    def arrays(self) -> list[Arrays]:
        """The pieces as they lie in files, memory-mapped: features, or the inputs themselves."""
        return self._arrays([piece for piece, _ in self.pieces] if self.features is None else self.features)

    def _arrays(self, inputs: Sequence[PreparedSplit | Features]) -> list[Arrays]:
        numbers = [None if rows is None else torch.from_numpy(rows) for _, rows in self.pieces]
        targets = [piece.y for piece, _ in self.pieces]
        return [Arrays(of_piece.x, y, rows) for of_piece, y, rows in zip(inputs, targets, numbers, strict=True)]

    def gather(self, rows: TaskRows) -> TaskBatch:
        """Tasks with their content, in the main memory."""
        return gather(self.arrays, rows)

    def gather_inputs(self, rows: TaskRows) -> TaskBatch:
        """Tasks with their inputs themselves, where `gather` has features in their place."""
        return gather(self._arrays([piece for piece, _ in self.pieces]), rows)


def gather(pieces: Sequence[Arrays], rows: TaskRows) -> TaskBatch:
    """Tasks with the content of their rows, on the device of both."""
    return TaskBatch(
        support_x=_gather(pieces, "x", rows.support),
        support_y=_gather(pieces, "y", rows.support) if rows.support_y is None else rows.support_y,
        query_x=_gather(pieces, "x", rows.query),
        query_y=_gather(pieces, "y", rows.query) if rows.query_y is None else rows.query_y,
        rows=rows,
    )


def joined(pieces: Sequence[Arrays], device: torch.device) -> Arrays:
    """All rows of all pieces as arrays on a device."""

    def whole(name: str) -> Tensor:
        found = [p.take(name, torch.arange(len(p))) if p.rows is not None else getattr(p, name) for p in pieces]
        return torch.cat(found).to(device)

    return Arrays(whole("x"), None if pieces[0].y is None else whole("y"))


def _gather(pieces: Sequence[Arrays], name: str, numbers: Tensor | None) -> Tensor:
    """Rows ``(T, S, ...)`` by their numbers ``(T, S)`` through all pieces."""
    if numbers is None:
        raise ValueError("computed tasks bring their content")
    flat = numbers.flatten()
    if len(pieces) == 1:
        found = pieces[0].take(name, flat)
    else:
        array = getattr(pieces[0], name)
        found = array.new_empty((len(flat), *array.shape[1:]))
        start = 0
        for piece in pieces:
            here = (flat >= start) & (flat < start + len(piece))
            found[here] = piece.take(name, flat[here] - start)
            start += len(piece)
    return found.view(*numbers.shape, *found.shape[1:])
