"""Scores nested in folds and seeds: a mean, and how far other tasks, other seeds and other classes would move it.

A score of fold f, seed s and task t is taken for ``mean + fold(f) + seed(f, s) + task(f, t) + noise``: a model is trained for
each seed of each fold, and the models of one fold are tested on the same tasks. Each of the three intervals takes one of these
as drawn anew, and what lies above it as it is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fewshot.evaluation.intervals import Interval, mean_interval

Scores = npt.NDArray[np.floating]


@dataclass(frozen=True)
class NestedSpread:
    """A mean over folds, seeds and tasks, with the half widths of three 95 % intervals that answer three questions.

    Attributes:
        mean: over the folds, each averaged over its seeds and tasks first: a fold counts the same however many it has.
        ci95_tasks: how far other tasks of the same classes would move it, for these trained models. NaN for one task.
        ci95_seeds: how far other seeds would move it, on these folds and tasks. NaN for one seed.
        ci95_folds: how far other classes, to train on and to test, would move it: Student's t over the F folds, with F - 1
            degrees of freedom. Too narrow, as folds share what they train on: `coverage_of_folds`. NaN for one fold.
        folds: how many.
        seeds: of a fold, the fewest.
    """

    mean: float
    ci95_tasks: float
    ci95_seeds: float
    ci95_folds: float
    folds: int
    seeds: int


def nested(folds: Sequence[Scores]) -> NestedSpread:
    """The mean and three intervals of scores.

    Args:
        folds: ``(seeds, tasks)`` of each; folds may differ in both.
    """
    of_folds = mean_interval([float(scores.mean()) for scores in folds])
    return NestedSpread(
        of_folds.mean,
        half_width(*within([scores.mean(axis=0) for scores in folds])),
        half_width(*within([scores.mean(axis=1) for scores in folds])),
        of_folds.ci95,
        len(folds),
        min(len(scores) for scores in folds),
    )


def corrected_interval(differences: Sequence[float] | Scores, test_to_train: float) -> tuple[Interval, float]:
    """The mean of paired differences over folds, its interval and p-value, by the corrected resampled t-test.

    Folds share what they train on, so their differences are correlated, and the variance of their mean is more than s^2 / F.
    Nadeau & Bengio (2003, "Inference for the generalization error", Machine Learning 52, section 4) put (1/F + test/train) s^2
    in its place, which is right where the correlation is test / (test + train).

    Args:
        differences: ``(F,)``, each averaged over seeds and tasks.
        test_to_train: classes (groups) of a fold that are tested, for one that is trained on.

    Returns:
        the interval; the two-sided p-value of no difference. Both NaN for one fold.
    """
    sample = np.asarray(differences, dtype=np.float64)
    count, mean = len(sample), float(sample.mean())
    error = float(sample.std(ddof=1)) * math.sqrt(1 / count + test_to_train) if count > 1 else math.nan
    return Interval(mean, half_width(error, count - 1)), p_value(mean, error, count - 1)


def coverage_of_folds(folds: int, correlation: float) -> float:
    """How often Student's 95 % interval over folds holds the mean where each two folds have this correlation.

    The mean of F correlated figures has the variance s^2 (1 + (F-1) r) / F, and their sample variance estimates s^2 (1 - r).
    """
    from scipy.stats import t

    ratio = math.sqrt((1 - correlation) / (1 + (folds - 1) * correlation))
    return float(2 * t.cdf(t.ppf(0.975, folds - 1) * ratio, folds - 1) - 1)


def cluster_bootstrap(folds: Sequence[Scores], draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """A 95 % percentile interval of the mean: folds are drawn with replacement, then seeds of each, then tasks of each.

    It assumes no distribution, and has no correction for few folds: with F of them it is about
    ``1.96 sqrt((F-1)/F) / t(0.975, F-1)`` times as wide as Student's, 0.63 with five.

    Args:
        folds: ``(seeds, tasks)`` of each. Seeds of one fold are tested on the same tasks, so that these are drawn once for all.
        draws: how many means are drawn.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    chosen = random.integers(len(folds), size=(draws, len(folds)))
    means = np.empty(chosen.shape)
    for number, scores in enumerate(folds):
        drawn = np.flatnonzero(chosen == number)
        seeds, tasks = (random.multinomial(n, np.full(n, 1 / n), size=len(drawn)) / n for n in scores.shape)
        means.flat[drawn] = ((seeds @ scores) * tasks).sum(axis=1)
    low, high = np.quantile(means.mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def p_value(mean: float, error: float, degrees: float) -> float:
    """Two-sided, of Student's t for a mean and its standard error; NaN without one, 1 where all figures are zero."""
    from scipy.stats import t

    if math.isnan(error):
        return math.nan
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * t.sf(abs(mean) / error, degrees))


def within(groups: Sequence[Scores]) -> tuple[float, int]:
    """The standard error of the mean of independent groups' means, their variances taken as equal, and its degrees of freedom.

    With one group, s / sqrt(n). NaN where no group has two figures.
    """
    sizes = np.array([len(group) for group in groups])
    degrees = int((sizes - 1).sum())
    if not degrees:
        return math.nan, 0
    variance = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / degrees
    return math.sqrt(variance * float((1 / sizes).sum())) / len(groups), degrees


def half_width(error: float, degrees: float) -> float:
    """Of Student's 95 % interval; NaN where there is no error to go by."""
    from scipy.stats import t

    return float(t.ppf(0.975, degrees)) * error if degrees else math.nan
