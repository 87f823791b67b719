"""What a run's CSV files say, read without PyTorch."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fewshot.errors import UserError

Figures = npt.NDArray[np.float64]

BINS = 15
"""Of equal width, as those of the calibration error in ``results.json``."""
COLUMNS = ("task", "row", "true", "predicted", "probability")
"""Of ``test_predictions.csv``."""


@dataclass(frozen=True)
class Queries:
    """The queries of one run's test, column by column.

    Attributes:
        task, row: ``(n,)`` their numbers.
        true, predicted: names of classes; the second is empty where outputs were not finite.
        probability: ``(n,)`` of the predicted class.
    """

    task: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    true: tuple[str, ...]
    predicted: tuple[str, ...]
    probability: Figures

    @cached_property
    def right(self) -> npt.NDArray[np.bool_]:
        """``(n,)`` whether each was recognised."""
        return np.asarray(np.array(self.true) == np.array(self.predicted))


@dataclass(frozen=True)
class Calibration:
    """How often predictions of a confidence are right.

    Attributes:
        confidence, accuracy: means of each bin that has queries.
        queries: in each of these bins.
        ece: mean over queries of the distance of the two (Guo et al. 2017, equation 3).
    """

    confidence: Figures
    accuracy: Figures
    queries: npt.NDArray[np.int64]
    ece: float


@dataclass(frozen=True)
class Confusion:
    """One class taken for another.

    Attributes:
        queries: of the true class that were taken for the other.
        asked: of the true class in tasks that had both.
    """

    true: str
    predicted: str
    queries: int
    asked: int


def curve(folder: Path, column: str) -> tuple[npt.NDArray[np.int64], Figures]:
    """A column of ``metrics.csv``: outer steps done, and the figures; empty where there is none."""
    found = [(int(row["step"]) + 1, float(row[column])) for row in _rows(folder / "metrics.csv", ()) if row.get(column)]
    return np.array([step for step, _ in found], dtype=np.int64), np.array([value for _, value in found])


def queries_of(folder: Path) -> Queries | None:
    """Every query of the test in a run's folder; None where it has no such file, or its tasks ask for values."""
    path = folder / "test_predictions.csv"
    rows = list(_rows(path, COLUMNS))
    if not rows or not rows[0]["probability"]:
        return None
    task, row, true, predicted, probability = ([line[name] for line in rows] for name in COLUMNS)
    try:
        numbers = np.array(task, dtype=np.int64), np.array(row, dtype=np.int64)
        return Queries(*numbers, tuple(true), tuple(predicted), np.array(probability, dtype=np.float64))
    except ValueError as error:
        raise UserError(f"{path}: {error}; delete it, or the run's results.json to test again") from error


def calibration(runs: Sequence[Queries]) -> Calibration:
    """Over all queries, in `BINS` bins of the probability of the predicted class."""
    probability, right = np.concatenate([run.probability for run in runs]), np.concatenate([run.right for run in runs])
    bins = np.clip(np.ceil(probability * BINS).astype(np.int64) - 1, 0, BINS - 1)
    count, sure, sums = (np.bincount(bins, weights, BINS) for weights in (None, probability, right))
    there = count > 0
    error = float(np.abs(sure - sums).sum() / len(right))
    return Calibration(sure[there] / count[there], sums[there] / count[there], count[there], error)


def confusions(runs: Sequence[Queries]) -> list[Confusion]:
    """Which class was taken for which other, the most frequent first."""
    wrong: Counter[tuple[str, str]] = Counter()
    asked: Counter[tuple[str, str]] = Counter()
    for run in runs:
        wrong.update(pair for pair in zip(run.true, run.predicted, strict=True) if pair[1] not in ("", pair[0]))
        of_tasks: dict[int, dict[str, int]] = {}
        for (task, true), count in Counter(zip(run.task.tolist(), run.true, strict=True)).items():
            of_tasks.setdefault(task, {})[true] = count
        for classes in of_tasks.values():
            for true, other in permutations(classes, 2):
                asked[true, other] += classes[true]
    found = [Confusion(*pair, count, asked[pair]) for pair, count in wrong.items()]
    return sorted(found, key=lambda pair: (-pair.queries, pair.true, pair.predicted))


def _rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """The rows of a CSV file by its header; none where there is no file."""
    if not path.is_file():
        return
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            for column in columns:
                if column not in (reader.fieldnames or ()):
                    raise UserError(f"{path} has no column {column}; delete it, or take another run")
            yield from reader
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error}); delete it, or take another run") from error
