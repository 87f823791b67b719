"""What one may expect of a support set, told by the support set alone: each example in turn is the query.

An example that is there twice is not asked for: its copy would give the answer away.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from fewshot.predict.predictor import TaskPredictor
from fewshot.tasks.batch import TaskBatch, TaskRows

MOST = 200
"""Examples that are asked for, evenly spread, at the most."""
ROWS_AT_ONCE = 1024
"""Rows of the tasks that are answered in one pass, about."""
ROWS, FEWEST = 40_000, 20
"""Rows of all tasks together, about: of large support sets fewer examples are asked for, but so many."""
Z = 1.959963984540054
"""Of a standard normal distribution, whose central 95 % lie within."""


@dataclass(frozen=True)
class Estimate:
    """An accuracy with Wilson's 95 % interval (1927), fractions.

    Attributes:
        right: examples that were recognised.
        asked: all that were asked for.
        chance: accuracy without looking: of always naming the class that most of them are of.
    """

    right: int
    asked: int
    chance: float

    @property
    def accuracy(self) -> float:
        """The share that was recognised."""
        return self.right / self.asked

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's, which stays within 0 and 1."""
        n, p = self.asked, self.accuracy
        centre, half = p + Z**2 / (2 * n), Z * sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
        return (centre - half) / (1 + Z**2 / n), (centre + half) / (1 + Z**2 / n)

    def __str__(self) -> str:
        low, high = self.interval
        said = (
            f"Expect {100 * self.accuracy:.1f} % accuracy (leave-one-out over the support set: {self.right} of {self.asked} "
            f"right; 95 % interval {100 * low:.0f} to {100 * high:.0f} %)"
        )
        if low <= self.chance:
            said += f"\nThat is not told from chance, {100 * self.chance:.0f} %: give more examples, or expect guesses"
        return said


def leave_one_out(predictor: TaskPredictor, x: Tensor, y: Tensor) -> Estimate | None:
    """The accuracy of each example by the others, of classes of two or more; None where there are none.

    Args:
        predictor: that answers each query by itself.
        x: rows of the support set ``(S, ...)``.
        y: their labels from 0 on ``(S,)``.
    """
    sizes, contents = y.bincount(), [hashlib.sha256(row.numpy().tobytes()).digest() for row in x]
    copies = Counter(contents)
    asked = [row for row in range(len(y)) if sizes[y[row]] > 1 and copies[contents[row]] == 1]
    if not asked:
        return None
    count = min(len(asked), MOST, max(FEWEST, ROWS // len(y)))
    asked = [asked[i * len(asked) // count] for i in range(count)]
    right = 0
    for part in _parts(asked, max(1, ROWS_AT_ONCE // len(y))):
        rest = torch.tensor([[other for other in range(len(y)) if other != row] for row in part])
        query = torch.tensor(part)[:, None]
        classes = torch.arange(len(sizes)).expand(len(part), -1)
        rows = TaskRows(torch.zeros(len(part), dtype=torch.int64), class_id=classes)
        outputs = predictor.outputs(TaskBatch(x[rest], y[rest], x[query], y[query], rows))
        right += int((predictor.model.objective.predict(outputs)[0] == y[query]).sum())
    return Estimate(right, len(asked), float(y[asked].bincount().max()) / len(asked))


def _parts(rows: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
