"""What a run's files say of its test, and means over seeds worked out by hand."""

import math

import numpy as np
import pytest

from fewshot.errors import UserError
from fewshot.evaluation.comparison import EvaluatedRun, evaluated_run, over_seeds, spread

RANDOM = np.random.default_rng(0)


def runs(accuracy, tasks="list", seeds=None):
    return [EvaluatedRun(seed, "acc", row, tasks) for seed, row in zip(seeds or range(len(accuracy)), accuracy, strict=True)]


def test_worked_out_by_hand():
    """Seeds' means 0.4 and 0.6: s = 0.1414, t(0.975, 1) = 12.706. Tasks' means 0.3 and 0.7: s = 0.2828."""
    found = spread(np.array([[0.2, 0.6], [0.4, 0.8]]))
    assert found.mean == pytest.approx(0.5)
    assert found.ci95_seeds == pytest.approx(12.7062 * 0.1, rel=1e-5)
    assert found.ci95_tasks == pytest.approx(12.7062 * 0.2, rel=1e-5)
    assert found.seeds == 2


def test_other_tasks_have_no_mean_over_seeds():
    accuracy = RANDOM.uniform(size=(2, 20))
    for other in (runs(accuracy, "those"), runs(accuracy[:, :10], "these")):
        with pytest.raises(ValueError, match="different tasks"):
            over_seeds([*runs(accuracy, "these"), *other])


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
    others = ({"shots": 5}, {"splits_sha256": {"test": "c"}}, {"eval_seed": 1}, {"within_group": True}, {"data": "other"},
              {"apart": "patient"}, {"replacement": False}, {"within": ["alphabet"]})  # fmt: skip
    for change in others:
        assert evaluated_run(tmp_path, results(**change)).tasks != run.tasks
    for change in ({"replacement": True}, {"apart": None}, {"splits_units": {"train": 6, "test": 2}}):
        assert evaluated_run(tmp_path, results(**change)).tasks == run.tasks
    assert math.isnan(run.test_to_train)
    assert evaluated_run(tmp_path, results(splits_units={"train": 6, "test": 2})).test_to_train == pytest.approx(1 / 3)
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


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"rule": "kfold", "by": "patient", "fold": 0}, {"rule": "kfold", "by": "patient", "fold": 1}),
        ({"rule": "cold_start", "scenario": "users"}, {"rule": "cold_start", "scenario": "both"}),
    ],
)
def test_folds_of_patients_have_the_same_classes_and_other_tasks(tmp_path, one, other):
    (tmp_path / "test_tasks.csv").write_text("task,acc_1\n0,0.75\n1,0.25\n")
    first, second = (evaluated_run(tmp_path, results(split_rules={"test": rule})).tasks for rule in (one, other))
    assert first != second


def test_the_names_of_classes_say_which_tasks_there_are_whatever_rule_dealt_them(tmp_path):
    (tmp_path / "test_tasks.csv").write_text("task,acc_1\n0,0.75\n1,0.25\n")
    rules = ({"rule": "published"}, {"rule": "kfold", "by": "class", "fold": 0}, {"rule": "fractions", "by": "class"})
    assert len({evaluated_run(tmp_path, results(split_rule=rule)).tasks for rule in rules}) == 1


def test_users_who_are_drawn_with_replacement_are_other_tasks(tmp_path):
    (tmp_path / "test_tasks.csv").write_text("task,acc_1\n0,0.75\n1,0.25\n")
    old, once, drawn = (
        evaluated_run(tmp_path, results(ways=1, **more)).tasks for more in ({}, {"replacement": False}, {"replacement": True})
    )
    assert old == once != drawn


def test_a_model_that_has_diverged_has_no_figure_but_is_no_broken_file(tmp_path):
    (tmp_path / "test_tasks.csv").write_text("task,acc_1\n0,inf\n1,0.5\n")
    run = evaluated_run(tmp_path, results() | {"metrics": {"test/acc": math.nan}})
    assert math.isnan(run.figures[0])
    assert not run.is_finite
    assert math.isnan(over_seeds([run]).mean)
