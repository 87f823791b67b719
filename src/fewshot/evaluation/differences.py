"""By how much runs differ in the score that decides: effect, intervals, tests, and how many tasks would decide one point."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fewshot.evaluation.comparison import EvaluatedRun
from fewshot.evaluation.nested import NestedSpread, corrected_interval, half_width, p_value, within
from fewshot.evaluation.scores import score

LEVEL = 0.05
"""A p-value below it decides."""
POINT = 0.01
"""The difference that tasks are counted for: one point of a score in percent, one percent of the baseline's of another."""
POWER = 0.8
DIGITS = 7
"""To which figures of tasks are told apart: files have nine."""

Figures = npt.NDArray[np.float64]
Folds = Mapping[str, Mapping[int, Figures]]


@dataclass(frozen=True)
class TasksNeeded:
    """How many test tasks, on the same tasks (paired) and on others (unpaired), by the standard deviations that were measured.

    None where there is no deviation to go by: of a single task, of differences of what is not paired, or where one percent of
    the baseline's score is nothing.

    Attributes:
        interval: that the half width of the 95 % interval is one point. With `unpaired_interval`, of each run.
        power: that a difference of one point is found (5 %, two-sided) in four of five cases.
    """

    interval: int | None
    unpaired_interval: int | None
    power: int | None
    unpaired_power: int | None


@dataclass(frozen=True)
class Difference(NestedSpread):
    """How much more runs score than a baseline: the mean of the difference, and its half widths.

    Those over seeds are paired where both sides have the same, else Welch's. Those over folds are corrected
    (`corrected_interval`); NaN where there is one fold, or what folds were trained on is unknown.

    Attributes:
        score: name of it.
        paired: whether both were tested on the same tasks; else the intervals are Welch's, of two independent samples.
        folds, seeds, tasks: that were compared: folds; seeds that both have, 0 where they share none; tasks of all folds.
        p: the largest of the p-values over tasks, over seeds and over folds: a difference counts if none of them explains it.
            NaN where that over folds is missing.
        wins, losses, ties: tasks on which the runs score higher, lower and the same, averaged over seeds.
        sign_p, wilcoxon_p: of the sign test and of Wilcoxon's signed-rank test over tasks; NaN where they are not paired.
        needed: tasks for one point.
    """

    score: str
    paired: bool
    tasks: int
    p: float
    wins: int
    losses: int
    ties: int
    sign_p: float
    wilcoxon_p: float
    needed: TasksNeeded

    @property
    def is_improvement(self) -> bool:
        """Whether the runs are on the better side of the baseline, decided or not."""
        return self.mean > 0 if score(self.score).mode == "max" else self.mean < 0

    def verdict(self, p: float) -> str:
        """``better``, ``worse`` or ``undecided``, by a p-value that several comparisons may have enlarged (`holm`)."""
        if not p < LEVEL:
            return "undecided"
        return "better" if self.is_improvement else "worse"


def difference(runs: Sequence[EvaluatedRun], baseline: Sequence[EvaluatedRun]) -> Difference:
    """Compares runs of one config, over seeds and folds, with those of another.

    Runs on the same list of tasks are of one fold. Folds that both have are paired, task by task as far as both lists go, and
    seed by seed where they share some, else as two samples of seeds. Without a fold in common nothing is paired.

    Raises:
        ValueError: there are no runs, or they have different scores, or tasks without a finite one.
    """
    decides = {run.score for run in (*runs, *baseline)}
    if len(decides) != 1 or not all(run.is_finite for run in (*runs, *baseline)):
        raise ValueError("runs that are compared need one score, and a finite one for each task")
    ours, theirs = _folds(runs), _folds(baseline)
    shared = [fold for fold in ours if fold in theirs]
    if not shared:
        return _unpaired(decides.pop(), ours, theirs)
    pairs = [_paired(ours[fold], theirs[fold]) for fold in shared]
    folds = [differences for differences, _ in pairs]
    tasks, seeds = [each.mean(axis=0) for each in folds], [each.mean(axis=1) for each in folds]
    common = min(count for _, count in pairs)
    ratios = [run.test_to_train for run in baseline if run.tasks in shared]
    over_folds, p_folds = corrected_interval([float(each.mean()) for each in folds], float(np.mean(ratios)))
    mean = over_folds.mean
    sides = [[_stacked(side[fold]) for fold in shared] for side in (ours, theirs)]
    errors = [
        within(tasks),
        within(seeds) if common else _welch([within([fold.mean(axis=1) for fold in side]) for side in sides]),
    ]
    p_values = [p_value(mean, error, degrees) for error, degrees in errors if degrees]
    all_tasks = np.concatenate(tasks).round(DIGITS)
    wins, losses = int((all_tasks > 0).sum()), int((all_tasks < 0).sum())
    deviations = [_deviation([fold.mean(axis=0) for fold in side]) for side in sides]
    reference = float(np.mean([fold.mean() for fold in sides[1]]))
    name = decides.pop()
    return Difference(
        score=name,
        paired=True,
        mean=mean,
        ci95_tasks=half_width(*errors[0]),
        ci95_seeds=half_width(*errors[1]),
        ci95_folds=over_folds.ci95,
        folds=len(folds),
        seeds=common,
        tasks=len(all_tasks),
        p=_largest([*p_values, p_folds] if len(folds) > 1 else p_values),
        wins=wins,
        losses=losses,
        ties=len(all_tasks) - wins - losses,
        sign_p=_sign_test(wins, losses),
        wilcoxon_p=_wilcoxon(all_tasks),
        needed=_needed(_deviation(tasks), math.hypot(*deviations), _point(name, reference)),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values of several comparisons, each enlarged so that the chance of any false one stays below the level (Holm 1979).

    Those that are NaN, of comparisons that cannot be decided, stay so, and do not count.
    """
    tested = sorted((p, number) for number, p in enumerate(p_values) if not math.isnan(p))
    adjusted, largest = list(p_values), 0.0
    for rank, (p, number) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        adjusted[number] = largest
    return adjusted


def _folds(runs: Sequence[EvaluatedRun]) -> Folds:
    """The figures by fold and seed."""
    found: dict[str, dict[int, Figures]] = {}
    for run in runs:
        found.setdefault(run.tasks, {})[run.seed] = run.figures
    return found


def _paired(ours: Mapping[int, Figures], theirs: Mapping[int, Figures]) -> tuple[Figures, int]:
    """Differences ``(seeds, tasks)`` of one fold, and how many seeds are paired.

    Where none is, the means over seeds are: one row.
    """
    tasks = min(len(figures) for side in (ours, theirs) for figures in side.values())
    shared = sorted(ours.keys() & theirs.keys())
    rows = [[side[seed][:tasks] for seed in shared or side] for side in (ours, theirs)]
    one, other = (np.stack(each) if shared else np.mean(each, axis=0, keepdims=True) for each in rows)
    return one - other, len(shared)


def _unpaired(name: str, ours: Folds, theirs: Folds) -> Difference:
    """Of runs that share no tasks: Welch's intervals."""
    sides = [[_stacked(fold) for fold in side.values()] for side in (ours, theirs)]
    means = [float(np.mean([fold.mean() for fold in side])) for side in sides]
    mean = means[0] - means[1]
    tasks = _welch([within([fold.mean(axis=0) for fold in side]) for side in sides])
    seeds = _welch([within([fold.mean(axis=1) for fold in side]) for side in sides])
    p_values = [p_value(mean, error, degrees) for error, degrees in (tasks, seeds) if degrees]
    alone = len(ours) == len(theirs) == 1
    deviations = [_deviation([fold.mean(axis=0) for fold in side]) for side in sides]
    return Difference(
        score=name,
        paired=False,
        mean=mean,
        ci95_tasks=half_width(*tasks),
        ci95_seeds=half_width(*seeds),
        ci95_folds=math.nan,
        folds=max(len(ours), len(theirs)),
        seeds=0,
        tasks=min(sum(fold.shape[1] for fold in side) for side in sides),
        p=_largest(p_values) if alone else math.nan,
        wins=0,
        losses=0,
        ties=0,
        sign_p=math.nan,
        wilcoxon_p=math.nan,
        needed=_needed(None, math.hypot(*deviations), _point(name, means[1])),
    )


def _stacked(fold: Mapping[int, Figures]) -> Figures:
    """``(seeds, tasks)``, as many tasks as all seeds have."""
    tasks = min(map(len, fold.values()))
    return np.stack([figures[:tasks] for figures in fold.values()])


def _welch(sides: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """Standard error of a difference of two independent means, and Satterthwaite's degrees of freedom; 0 without them."""
    if not all(degrees for _, degrees in sides):
        return math.nan, 0
    squares = [error**2 for error, _ in sides]
    total = sum(squares)
    spread = sum(square**2 / degrees for square, (_, degrees) in zip(squares, sides, strict=True))
    return math.sqrt(total), total**2 / spread if spread else float(sum(degrees for _, degrees in sides))


def _deviation(folds: Sequence[Figures]) -> float:
    """Standard deviation of a task about the mean of its fold; NaN for single tasks."""
    degrees = sum(len(fold) - 1 for fold in folds)
    return math.sqrt(sum(float(((fold - fold.mean()) ** 2).sum()) for fold in folds) / degrees) if degrees else math.nan


def _point(name: str, reference: float) -> float:
    return POINT if score(name).percent else POINT * abs(reference)


def _needed(paired: float | None, unpaired: float, point: float) -> TasksNeeded:
    """From the standard deviation of paired differences, and of those of two independent tasks; normal quantiles."""
    from scipy.stats import norm

    half, power = norm.ppf(0.975), norm.ppf(0.975) + norm.ppf(POWER)

    def tasks(deviation: float | None, factor: float) -> int | None:
        if deviation is None or math.isnan(deviation) or not point:
            return None
        return max(2, math.ceil((factor * deviation / point) ** 2))

    return TasksNeeded(tasks(paired, half), tasks(unpaired, half), tasks(paired, power), tasks(unpaired, power))


def _largest(p_values: Sequence[float]) -> float:
    """NaN where there are none, or one of them is."""
    return max(p_values, default=math.nan) if not any(map(math.isnan, p_values)) else math.nan


def _sign_test(wins: int, losses: int) -> float:
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def _wilcoxon(differences: Figures) -> float:
    from scipy.stats import wilcoxon

    differing = differences[differences != 0]
    return float(wilcoxon(differing).pvalue) if len(differing) else 1.0
