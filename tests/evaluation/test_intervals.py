"""Confidence intervals against SciPy's own, and against what an interval is for."""

import math

import numpy as np
import pytest
from scipy import stats

from fewshot.evaluation.intervals import mean_interval


@pytest.mark.parametrize("n", [2, 5, 600])
def test_it_is_students_interval(n):
    values = np.random.default_rng(0).random(n)
    found = mean_interval(values)
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert found.mean == pytest.approx(values.mean())
    assert (found.mean - found.ci95, found.mean + found.ci95) == pytest.approx((low, high))


def test_two_tasks_by_hand():
    """t(0.975, 1) = 12.7062; the standard error of 0.4 and 0.6 is 0.1."""
    found = mean_interval([0.4, 0.6])
    assert found.mean == pytest.approx(0.5)
    assert found.ci95 == pytest.approx(1.27062, rel=1e-5)


def test_equal_tasks_leave_no_doubt():
    assert mean_interval([0.25] * 10).ci95 == 0


def test_one_task_says_nothing_of_its_spread():
    found = mean_interval([0.7])
    assert found.mean == 0.7
    assert math.isnan(found.ci95)


def test_it_covers_the_true_mean_95_times_in_100():
    """Accuracies of 600 tasks of 75 queries, drawn 2,000 times: the share has a standard error of half a point."""
    draws = np.random.default_rng(1).binomial(75, 0.6, size=(2000, 600)) / 75
    intervals = [mean_interval(row) for row in draws]
    covered = np.mean([abs(interval.mean - 0.6) <= interval.ci95 for interval in intervals])
    assert covered == pytest.approx(0.95, abs=0.015)
