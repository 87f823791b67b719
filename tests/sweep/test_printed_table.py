"""What the terminal shows of a sweep: tables of 80 columns, whatever is in them, and how its jobs ended."""

import json
import math
import re

import numpy as np
import pytest

from fewshot.errors import UserError
from fewshot.evaluation.results import write_results
from fewshot.sweep.groups import chosen_baseline, groups_of, named, one_score
from fewshot.sweep.job import Job, jobs_in
from fewshot.sweep.report import WIDTH, Labels, Progress, console
from fewshot.sweep.table import csv_text, explanation, print_table

TASKS = 20
LEVELS = {"maml": 0.3, "protonet": 0.5, "a_model_with_a_name_that_is_long": 0.7}


def finish(folder, model, seed=0, fold=None, score="acc", figures=None, ratio=0.5, more=(), **protocol):
    """A complete job of a sweep over models, seeds and folds."""
    job = Job(folder / f"{model}-{seed}-{fold}")
    overrides = [f"model={model}", *more, f"seed={seed}", *([] if fold is None else [f"data.split.fold={fold}"])]
    job.freeze("{}", overrides, ["train.py"], "module:function", f"{model}-{fold}")
    random = np.random.default_rng([seed, fold or 0])
    figures = LEVELS.get(model, 0.5) + random.normal(0, 0.1, TASKS) if figures is None else np.array(figures)
    lines = [f"{task},{value:.9g}" for task, value in enumerate(figures)]
    (job.folder / "test_tasks.csv").write_text("\n".join([f"task,{score}_0", *lines]) + "\n")
    known = {
        "data": "toy", "splits_sha256": {"test": str(fold)}, "ways": 3, "shots": 1, "queries": 4, "seed": seed,
        "train": {"steps": 6}, "objective": {"monitor": score}, "splits_units": {"train": 10, "test": 10 * ratio},
    }  # fmt: skip
    write_results(
        job.folder / "results.json",
        metrics={f"val/{score}": LEVELS.get(model, 0.5), f"test/{score}": figures.mean()},
        test={"tasks": len(figures), f"{score}_per_step": [figures.mean()], "per_task_file": "test_tasks.csv"},
        protocol=known | protocol,
        cost={"train_seconds": 12345.0},
        provenance={},
    )
    return job


def printed(capsys, folder, baseline=None):
    groups = groups_of(jobs_in(folder))
    print_table(console(WIDTH), groups, chosen_baseline(groups, baseline) if baseline else [])
    return capsys.readouterr().out


def test_all_columns_fit_in_80(tmp_path, capsys):
    for model in LEVELS:
        for fold in range(3):
            for seed in range(2):
                finish(tmp_path, model, seed, fold)
    out = printed(capsys, tmp_path, "maml")
    lines = out.splitlines()
    assert max(map(len, lines)) <= WIDTH
    header, *_ = (line.split() for line in lines)
    assert header == ["config", "seeds", "val", "test", "±", "tasks", "±", "seeds", "±", "folds", "seconds"]
    assert "difference to model=maml" in lines
    (fold,) = [
        line.split() for line in lines[: lines.index("difference to model=maml")] if line.startswith("model=maml fold=0")
    ]
    assert len(fold) == len(["model=maml", "fold=0", "seeds", "validation", "test", "tasks", "seeds", "seconds"])
    below = out.partition("difference to model=maml\n")[2]
    assert re.findall(r"^mean of 3 .*?(\+\d+\.\d+)", below, re.MULTILINE) == ["+40.00", "+20.00"]
    assert "model=maml fold" not in below  # the baseline differs from itself by nothing


def test_a_baseline_is_named_by_its_value_alone(tmp_path):
    for model in LEVELS:
        finish(tmp_path, model)
    groups = groups_of(jobs_in(tmp_path))
    assert [group.label for group in chosen_baseline(groups, "protonet")] == ["model=protonet"]
    with pytest.raises(UserError, match="--baseline='proto' fits 0 configs; choose one of: 'model=a_model"):
        chosen_baseline(groups, "proto")


def test_a_value_with_spaces_stays_in_the_name_of_a_config(tmp_path):
    for fold in range(2):
        finish(tmp_path, "maml", fold=fold, more=["data.source.folder='my pictures'"])
    finish(tmp_path, "protonet")
    groups = groups_of(jobs_in(tmp_path))
    of_maml = [group for group in groups if "model=maml" in group.overrides]
    assert named(of_maml) == "model=maml folder='my pictures'"


def test_each_cross_validation_has_its_own_degrees(tmp_path):
    """One of them lacks a fold, or was not tested: no sentence about one is made of the folds of another."""
    for fold in range(4):
        finish(tmp_path, "protonet", fold=fold)
        if fold < 2:
            finish(tmp_path, "maml", fold=fold, ratio=1)
    lines = explanation(groups_of(jobs_in(tmp_path)), compared=False)
    assert "± folds of model=protonet: other classes. Student's t with 3 degrees" in lines[1]
    assert "± folds of model=maml: other classes. Student's t with 1 degree," in lines[2]
    assert "about 84 %" in lines[1]
    assert "about 91 %" in lines[2]


def test_a_run_that_diverged_takes_no_table_away(tmp_path, capsys):
    finish(tmp_path, "maml", score="rmse")
    finish(tmp_path, "protonet", score="rmse", figures=[math.inf, 1.0])
    out = printed(capsys, tmp_path, "maml")
    (row,) = [line for line in out.splitlines() if line.startswith("model=protonet") and "not finite" in line]
    assert "nan" not in out
    assert "inf" not in row.replace("finite", "")


def test_scores_of_two_kinds_have_no_best_and_no_column(tmp_path, capsys):
    finish(tmp_path, "maml")
    finish(tmp_path, "protonet", score="rmse")
    groups = groups_of(jobs_in(tmp_path))
    for refused in (one_score, lambda groups: csv_text(groups, [])):
        with pytest.raises(UserError, match=r"decided by different scores \(acc, rmse\)"):
            refused(groups)
    assert "–" in printed(capsys, tmp_path, "maml")


def test_runs_of_one_config_on_other_tasks_are_no_seeds(tmp_path):
    finish(tmp_path, "maml", 0)
    finish(tmp_path, "maml", 1, eval_seed=5)
    with pytest.raises(
        UserError, match=r"maml-0-None and .*maml-1-None are runs of one config that were tested on different tasks"
    ):
        groups_of(jobs_in(tmp_path))


def test_a_job_ends_with_the_figure_that_it_has(tmp_path, capsys):
    """Training with that of its validation, an evaluation with that of the part that it evaluated."""
    training, evaluation = finish(tmp_path, "maml"), finish(tmp_path, "protonet")
    path = evaluation.folder / "results.json"
    content = json.loads(path.read_text())
    content["metrics"] = {"test/acc": 0.875, "test/acc_ci95": 0.01}
    path.write_text(json.dumps(content))
    progress = Progress(Labels([], common=set()))
    for job in (training, evaluation):
        progress.ended(job)
    first, second = capsys.readouterr().out.splitlines()
    assert "  val 30.00 %" in first
    assert second.endswith("  test 87.50 ± 1.00 %")
