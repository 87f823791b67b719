"""Intervals of nested scores on data whose variance components are known: they cover what they should."""

import math

import numpy as np
import pytest
from scipy import stats

from fewshot.evaluation.comparison import spread
from fewshot.evaluation.nested import (
    cluster_bootstrap,
    corrected_interval,
    coverage_of_folds,
    nested,
)

FOLDS, SEEDS, TASKS = 5, 3, 40
MEAN, FOLD, SEED, TASK, NOISE = 0.7, 0.03, 0.02, 0.15, 0.05
"""Standard deviations as in reference figures: classes 1.6 to 3.4 points, a task 10 to 20."""
DRAWS = 1200
TRAINED, TESTED = 3, 1
"""Fifths of the classes."""
CORRELATION = TESTED / (TESTED + TRAINED)


def simulated(random, folds=FOLDS, seeds=SEEDS, tasks=TASKS, fold=FOLD):
    """Scores ``(folds, seeds, tasks)`` and, of the same, the mean for these models, and the mean for these folds."""
    of_folds = MEAN + fold * random.standard_normal((folds, 1, 1))
    of_seeds = of_folds + SEED * random.standard_normal((folds, seeds, 1))
    of_tasks = TASK * random.standard_normal((folds, 1, tasks))
    scores = of_seeds + of_tasks + NOISE * random.standard_normal((folds, seeds, tasks))
    return scores, of_seeds.mean(), (of_folds + of_tasks.mean(axis=2, keepdims=True)).mean()


def test_each_interval_covers_its_own_question():
    """Over tasks: the mean of these models; over seeds: that of all seeds on these tasks; over folds: that of all classes."""
    random, covered = np.random.default_rng(0), np.zeros(3)
    for _ in range(DRAWS):
        scores, of_models, of_tasks = simulated(random)
        found = nested(scores)
        errors = np.abs(found.mean - np.array([of_models, of_tasks, MEAN]))
        covered += errors <= [found.ci95_tasks, found.ci95_seeds, found.ci95_folds]
    assert (covered / DRAWS >= 0.93).all(), covered / DRAWS
    assert (covered / DRAWS <= 0.97).all(), covered / DRAWS


def test_an_interval_over_tasks_does_not_answer_for_other_classes():
    """600 tasks of one fold: the mean over all classes is outside nearly always, for the spread over folds is not in them."""
    random, covered = np.random.default_rng(1), 0
    for _ in range(300):
        scores, *_ = simulated(random, folds=1, seeds=1, tasks=600)
        covered += abs(scores.mean() - MEAN) <= nested(scores).ci95_tasks
    assert covered / 300 < 0.4


def test_folds_that_share_training_sets_are_covered_less_and_by_how_much():
    """Equally correlated folds: Student's interval covers 84 % in place of 95, as theory says; Nadeau & Bengio's 95 %."""
    random, draws = np.random.default_rng(2), 2000
    shared = math.sqrt(CORRELATION) * random.standard_normal((draws, 1))
    folds = shared + math.sqrt(1 - CORRELATION) * random.standard_normal((draws, FOLDS))
    plain = [nested([np.array([[score]]) for score in row]) for row in folds]
    covered = np.mean([abs(found.mean) <= found.ci95_folds for found in plain])
    corrected = np.mean(
        [abs(each.mean) <= each.ci95 for each, _ in (corrected_interval(row, TESTED / TRAINED) for row in folds)]
    )
    assert coverage_of_folds(FOLDS, CORRELATION) == pytest.approx(0.836, abs=0.001)
    assert covered == pytest.approx(coverage_of_folds(FOLDS, CORRELATION), abs=0.02)
    assert 0.93 <= corrected <= 0.97


def test_independent_folds_are_covered_in_full():
    assert coverage_of_folds(5, 0) == pytest.approx(0.95)


def test_one_fold_is_what_a_table_over_seeds_has():
    scores = np.random.default_rng(3).uniform(size=(3, 50))
    one, known = nested([scores]), spread(scores)
    assert (one.mean, one.ci95_tasks, one.ci95_seeds) == pytest.approx((known.mean, known.ci95_tasks, known.ci95_seeds))
    assert math.isnan(one.ci95_folds)
    assert (one.folds, one.seeds) == (1, 3)


def test_worked_out_by_hand():
    """Two folds of means 0.2 and 0.6; tasks deviate by 0.1 about each, in seeds' means by 0.05: 2 degrees, t = 4.3027."""
    folds = [np.array([[0.05, 0.25], [0.15, 0.35]]), np.array([[0.45, 0.65], [0.55, 0.75]])]
    found = nested(folds)
    assert found.mean == pytest.approx(0.4)
    assert found.ci95_tasks == pytest.approx(4.30265 * math.sqrt(0.02 * (1 / 2 + 1 / 2)) / 2, rel=1e-5)
    assert found.ci95_seeds == pytest.approx(4.30265 * math.sqrt(0.005 * (1 / 2 + 1 / 2)) / 2, rel=1e-5)
    assert found.ci95_folds == pytest.approx(12.7062 * 0.2, rel=1e-5)


def test_the_correction_is_that_of_the_paper():
    """Without a training set that is shared, the t-test of one sample; with one, sqrt(1 + F test/train) of its error."""
    differences = np.random.default_rng(4).normal(0.02, 0.03, size=5)
    plain, p = corrected_interval(differences, 0)
    test = stats.ttest_1samp(differences, 0)
    interval = test.confidence_interval(0.95)
    assert (plain.mean, plain.ci95) == pytest.approx((differences.mean(), (interval.high - interval.low) / 2))
    assert p == pytest.approx(test.pvalue)
    wider, larger = corrected_interval(differences, 1 / 3)
    assert wider.ci95 == pytest.approx(plain.ci95 * math.sqrt(1 + 5 / 3))
    assert larger == pytest.approx(2 * stats.t.sf(test.statistic / math.sqrt(1 + 5 / 3), 4))
    assert math.isnan(corrected_interval([0.1], 1 / 3)[1])


def test_the_bootstrap_agrees_where_there_are_many_folds():
    """With 40 folds it has the width of Student's interval over folds; with 5, 0.63 of it."""
    random = np.random.default_rng(5)
    for count, ratio in ((40, 0.957), (5, 0.631)):
        widths = []
        for _ in range(12):
            scores, *_ = simulated(random, folds=count, tasks=12, fold=1)
            low, high = cluster_bootstrap(scores, draws=500)
            widths.append((high - low) / 2 / nested(scores).ci95_folds)
        assert np.mean(widths) == pytest.approx(ratio, abs=0.04)


def test_folds_may_differ_in_seeds_and_tasks():
    random = np.random.default_rng(6)
    folds = [random.uniform(size=shape) for shape in ((3, 10), (2, 20), (1, 5))]
    found = nested(folds)
    assert found.mean == pytest.approx(np.mean([scores.mean() for scores in folds]))
    assert found.seeds == 1
    low, high = cluster_bootstrap(folds, draws=200)
    assert low < found.mean < high
