"""Means over seeds and paired differences, held against SciPy and figures worked out by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from fewshot.errors import UserError
from fewshot.evaluation.comparison import EvaluatedRun, evaluated_run, over_seeds, paired_difference, spread

RANDOM = np.random.default_rng(0)


def runs(accuracy, tasks="list", seeds=None):
    return [EvaluatedRun(seed, "acc", row, tasks) for seed, row in zip(seeds or range(len(accuracy)), accuracy, strict=True)]


def half_width(interval):
    return (interval.high - interval.low) / 2


def test_worked_out_by_hand():
    """Seeds' means 0.4 and 0.6: s = 0.1414, t(0.975, 1) = 12.706. Tasks' means 0.3 and 0.7: s = 0.2828."""
    found = spread(np.array([[0.2, 0.6], [0.4, 0.8]]))
    assert found.mean == pytest.approx(0.5)
    assert found.ci95_seeds == pytest.approx(12.7062 * 0.1, rel=1e-5)
    assert found.ci95_tasks == pytest.approx(12.7062 * 0.2, rel=1e-5)
    assert found.seeds == 2


def test_paired_differences_are_those_of_scipy():
    ours, theirs = RANDOM.uniform(size=(2, 3, 50))
    found = paired_difference(runs(ours), runs(theirs))
    over_tasks = stats.ttest_rel(ours.mean(axis=0), theirs.mean(axis=0))
    over_seeds = stats.ttest_rel(ours.mean(axis=1), theirs.mean(axis=1))
    assert found.mean == pytest.approx(ours.mean() - theirs.mean())
    assert found.ci95_tasks == pytest.approx(half_width(over_tasks.confidence_interval(0.95)))
    assert found.ci95_seeds == pytest.approx(half_width(over_seeds.confidence_interval(0.95)))


def test_pairing_removes_what_tasks_share():
    hardness = RANDOM.uniform(size=(1, 200))
    ours, theirs = (hardness + 0.01 * RANDOM.standard_normal((3, 200)) for _ in range(2))
    paired, alone = paired_difference(runs(ours), runs(theirs)), over_seeds(runs(ours))
    assert paired.ci95_tasks < alone.ci95_tasks / 10


def test_only_shared_seeds_are_paired():
    ours, theirs = RANDOM.uniform(size=(3, 20)), RANDOM.uniform(size=(2, 20))
    found = paired_difference(runs(ours, seeds=[0, 1, 5]), runs(theirs, seeds=[5, 0]))
    assert found.seeds == 2
    assert found.mean == pytest.approx((ours[[0, 2]] - theirs[[1, 0]]).mean())


def test_without_shared_seeds_tasks_are_still_paired():
    ours, theirs = RANDOM.uniform(size=(2, 20)), RANDOM.uniform(size=(3, 20))
    found = paired_difference(runs(ours, seeds=[0, 1]), runs(theirs, seeds=[2, 3, 4]))
    expected = stats.ttest_rel(ours.mean(axis=0), theirs.mean(axis=0)).confidence_interval(0.95)
    assert found.ci95_tasks == pytest.approx(half_width(expected))
    assert math.isnan(found.ci95_seeds)
    assert found.seeds == 0


def test_other_tasks_are_not_compared():
    accuracy = RANDOM.uniform(size=(2, 20))
    assert paired_difference(runs(accuracy, "these"), runs(accuracy, "those")) is None
    with pytest.raises(ValueError, match="different tasks"):
        over_seeds([*runs(accuracy, "these"), *runs(accuracy, "those")])


def results(**protocol):
    known = {"data": "toy", "splits_sha256": {"test": "a"}, "ways": 3, "shots": 1, "queries": 4, "within_group": False,
             "eval_seed": 0, "test_tasks": 2, "seed": 7}  # fmt: skip
    test = {"tasks": 2, "acc_per_step": [0.2, 0.5], "per_task_file": "test_tasks.csv"}
    return {"test": test, "protocol": known | protocol, "provenance": {"data_sha256": {"test": "b"}}}


def test_a_run_is_read_from_its_files(tmp_path):
    (tmp_path / "test_tasks.csv").write_text("task,acc_0,acc_1,loss_0,loss_1\n1,0.1,0.25,1,1\n0,0.2,0.75,1,1\n")
    run = evaluated_run(tmp_path, results())
    assert run.seed == 7
    assert run.figures.tolist() == [0.75, 0.25]
    assert evaluated_run(tmp_path, results(seed=8)).tasks == run.tasks
    for change in ({"shots": 5}, {"splits_sha256": {"test": "c"}}, {"eval_seed": 1}, {"within_group": True}, {"data": "other"}):
        assert evaluated_run(tmp_path, results(**change)).tasks != run.tasks
    assert evaluated_run(tmp_path, results() | {"test": None}) is None


@pytest.mark.parametrize(
    "text", ["", "task,acc_0\n0,0.5\n1,0.5\n", "task,acc_1\n0,0.5\n", "task,acc_1\n0,x\n1,y\n", "task,acc_1\n0,nan\n1,0.5\n"]
)
def test_a_broken_file_of_tasks_takes_one_line(tmp_path, text):
    (tmp_path / "test_tasks.csv").write_text(text)
    with pytest.raises(UserError, match=r"test_tasks\.csv does not hold the tasks that results\.json speaks of"):
        evaluated_run(tmp_path, results())


def test_a_missing_file_of_tasks_takes_one_line(tmp_path):
    with pytest.raises(UserError, match=r"test_tasks\.csv does not hold"):
        evaluated_run(tmp_path, results())
