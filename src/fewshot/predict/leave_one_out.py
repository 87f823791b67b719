"""The accuracy that a support set lets expect, estimated from the support set alone: each example in turn is the query.

One example of each class is left out at a time. With one alone, the class of the query would be the smaller one, and whatever
favours larger classes (a regression with an intercept) would be wrong more often than by chance. An example that is there twice
is not asked for: its copy would give the answer away.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, sqrt

import torch
from torch import Tensor

from fewshot.predict.predictor import TaskPredictor
from fewshot.tasks.batch import TaskBatch, TaskRows

MOST, FEWEST = 200, 20
"""Examples that are asked for, evenly spread, at the most; of large support sets at least."""
ROWS = 40_000
"""Rows of all tasks together, about: of large support sets fewer examples are asked for."""
ROWS_AT_ONCE = 1024
"""Rows of the tasks that are answered in one pass, about."""
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
    right, labels = 0, []
    for queries in _rounds(torch.tensor(asked), y):
        rest = torch.tensor([[row for row in range(len(y)) if row not in left_out] for left_out in queries.tolist()])
        rows = TaskRows(
            torch.zeros(len(queries), dtype=torch.int64), class_id=torch.arange(len(sizes)).expand(len(queries), -1)
        )
        outputs = predictor.outputs(TaskBatch(x[rest], y[rest], x[queries], y[queries], rows))
        right += int((predictor.model.objective.predict(outputs)[0] == y[queries]).sum())
        labels.append(y[queries].flatten())
    seen = torch.cat(labels)
    return Estimate(right, len(seen), float(seen.bincount().max()) / len(seen))


def _rounds(asked: Tensor, y: Tensor) -> Iterator[Tensor]:
    """The rows to leave out together ``(rounds, R)``, at most one of each class, spread over those of its class."""
    of_class = [own for label in range(int(y.max()) + 1) if len(own := asked[y[asked] == label])]
    fewest, most = (ceil(number / len(of_class)) for number in (FEWEST, MOST))
    count = min(max(len(own) for own in of_class), most, max(fewest, ROWS // len(y)))
    rounds: list[list[int]] = [[] for _ in range(count)]
    for own in of_class:
        here = min(len(own), count)
        for number in range(here):
            rounds[number * count // here].append(int(own[number * len(own) // here]))
    for size in {len(left_out) for left_out in rounds}:
        alike = torch.tensor([left_out for left_out in rounds if len(left_out) == size])
        yield from torch.split(alike, max(1, ROWS_AT_ONCE // len(y)))
