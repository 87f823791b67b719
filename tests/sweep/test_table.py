"""What came of a sweep, from files alone: tables, CSV, plot, the best config; by the commands that a user types."""

import csv
import shutil
import subprocess
import sys

import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy import stats

from fewshot.errors import UserError
from fewshot.evaluation.results import write_results
from fewshot.sweep.__main__ import parser, retry
from fewshot.sweep.conclusion import conclude
from fewshot.sweep.groups import chosen_baseline, configs_of, cross_validations, doubled, groups_of
from fewshot.sweep.job import Job, State, jobs_in
from fewshot.sweep.plot import plot
from fewshot.sweep.table import cells, csv_text, explanation, markdown
from tests.entry import main

TASKS = 40
RANDOM = np.random.default_rng(0)
HARDNESS = RANDOM.normal(0, 0.1, TASKS)


def finish(folder, lr, seed, level, tested=True, fold=None, newer=False, **protocol):
    """A complete job of a sweep over learning rates, seeds and folds; returns the accuracy of its tasks."""
    version = "-newer" if newer else ""
    job = Job(folder / f"{lr}-{seed}-{fold}{version}")
    overrides = ["experiment=tiny", f"model.inner.lr={lr}", f"seed={seed}"]
    overrides += [] if fold is None else [f"data.split.fold={fold}"]
    job.freeze("{}", overrides, ["train.py", *overrides], "module:function", f"group-{lr}-{fold}{version}")
    accuracy = level + HARDNESS + RANDOM.normal(0, 0.02, TASKS) + 0.01 * seed
    lines = [f"{task},0.2,{value:.9g},1,1" for task, value in enumerate(accuracy)]
    (job.folder / "test_tasks.csv").write_text("\n".join(["task,acc_0,acc_1,loss_0,loss_1", *lines]) + "\n")
    known = {"data": "toy", "ways": 3, "shots": 1, "queries": 4, "test_tasks": TASKS, "seed": seed, "train": {"steps": 6}}
    write_results(
        job.folder / "results.json",
        metrics={"val/acc": level + 0.1, "test/acc": accuracy.mean()} if tested else {"val/acc": level + 0.1},
        test={"tasks": TASKS, "acc_per_step": [0.2, 0.5], "per_task_file": "test_tasks.csv"} if tested else None,
        protocol=known | protocol,
        cost={"train_seconds": 10.0 + seed},
        provenance={"git_commit": "abc", "data_sha256": {"test": "b"}},
    )
    return accuracy


@pytest.fixture
def sweep(tmp_path):
    """Two learning rates, three seeds each; their accuracies."""
    folder = tmp_path / "sweep"
    return folder, {
        lr: np.stack([finish(folder, lr, seed, level) for seed in range(3)]) for lr, level in ((0.1, 0.5), (0.4, 0.6))
    }


def command(*arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "200")
        return main("src/fewshot/sweep/__main__.py", *map(str, arguments))


def test_the_best_on_validation_is_first_and_seeds_are_together(sweep):
    groups = groups_of(jobs_in(sweep[0]))
    assert [group.label for group in groups] == ["model.inner.lr=0.4", "model.inner.lr=0.1"]
    assert [len(group.jobs) for group in groups] == [3, 3]
    assert groups[0].train_seconds == pytest.approx(11)


def test_figures_are_those_of_the_tasks(sweep):
    folder, accuracy = sweep
    groups = groups_of(jobs_in(folder))
    first, second = csv.DictReader(csv_text(groups, chosen_baseline(groups, "model.inner.lr=0.1")).splitlines())
    assert float(first["test_acc"]) == pytest.approx(accuracy[0.4].mean(), abs=1e-8)
    over_seeds = stats.ttest_1samp(accuracy[0.4].mean(axis=1), 0).confidence_interval(0.95)
    assert float(first["test_acc_ci95_seeds"]) == pytest.approx((over_seeds.high - over_seeds.low) / 2, abs=1e-8)
    paired = stats.ttest_rel(accuracy[0.4].mean(axis=0), accuracy[0.1].mean(axis=0)).confidence_interval(0.95)
    assert float(first["difference_ci95_tasks"]) == pytest.approx((paired.high - paired.low) / 2, abs=1e-8)
    assert float(first["difference"]) == pytest.approx((paired.high + paired.low) / 2, abs=1e-8)
    assert second["difference"] == ""
    assert float(first["val_acc"]) == pytest.approx(0.7)


def test_other_test_tasks_have_no_paired_difference(sweep):
    folder, _ = sweep
    for seed in range(3):
        finish(folder, 0.8, seed, 0.7, shots=5)
    groups = groups_of(jobs_in(folder))
    header, *rows = cells(groups, chosen_baseline(groups, "model.inner.lr=0.1"))
    assert header[4] == "difference to lr=0.1"
    assert rows[0][4] == "–"
    assert rows[1][4].startswith("+")


@pytest.fixture
def folds(tmp_path):
    """Two learning rates, three folds of two seeds each, whose test tasks differ; their groups and accuracies."""
    accuracies = {
        (lr, fold): np.stack(
            [finish(tmp_path, lr, seed, level + 0.1 * fold, fold=fold, splits_sha256={"test": f"{fold}"}, **UNITS)
             for seed in range(2)]
        )
        for lr, level in ((0.1, 0.2), (0.4, 0.5))
        for fold in range(3)
    }  # fmt: skip
    return groups_of(jobs_in(tmp_path)), accuracies


UNITS = {"splits_units": {"train": 10, "test": 10}}
"""As many classes are tested as are trained on: folds are correlated by a half."""


def test_folds_have_a_row_each_and_one_for_their_mean(folds):
    groups, accuracies = folds
    header, *rows = cells(groups, [])
    assert header[3] == "test ± tasks ± seeds ± folds"
    assert len(rows) == 8
    assert [row[0] for row in rows[:4]] == [*(f"lr=0.4 fold={fold}" for fold in range(3)), "mean of 3 folds lr=0.4"]
    assert rows[7][:3] == ["mean of 3 folds lr=0.1", "", "40.00"]
    means = [accuracies[0.1, fold].mean() for fold in range(3)]
    over_folds = stats.t.ppf(0.975, 2) * np.std(means, ddof=1) / 3**0.5
    mean, _, _, width = rows[7][3].split(" ± ")
    assert (mean, width) == (f"{100 * np.mean(means):.2f}", f"{100 * over_folds:.2f}")


def test_published_splits_of_one_data_set_are_no_folds(tmp_path):
    for fold, which in enumerate(("frn", "closerlook")):
        finish(tmp_path, 0.1, 0, 0.5, fold=fold, split_rule={"rule": "published", "which": which})
    assert cross_validations(groups_of(jobs_in(tmp_path))) == []


def test_the_best_config_is_that_of_the_best_mean_over_folds(tmp_path):
    """The best single fold is of the other one, with classes that are easy."""
    for lr, levels in ((0.1, (0.8, 0.1)), (0.4, (0.6, 0.5))):
        for fold, level in enumerate(levels):
            finish(tmp_path, lr, 0, level, fold=fold)
    groups = groups_of(jobs_in(tmp_path))
    assert groups[0].label == "model.inner.lr=0.1 data.split.fold=0"
    assert [[group.short for group in config] for config in configs_of(groups)] == [
        ["lr=0.4 fold=0", "lr=0.4 fold=1"], ["lr=0.1 fold=0", "lr=0.1 fold=1"]
    ]  # fmt: skip


def test_folds_are_compared_with_those_of_the_baseline(folds):
    groups, accuracies = folds
    baseline = chosen_baseline(groups, "lr=0.1")
    assert baseline == cross_validations(groups)[1]
    header, *rows = cells(groups, baseline)
    assert header[4] == "difference to lr=0.1"
    assert [bool(row[4]) for row in rows] == [True] * 4 + [False] * 4
    differences = [(accuracies[0.4, fold] - accuracies[0.1, fold]).mean() for fold in range(3)]
    corrected = stats.t.ppf(0.975, 2) * np.std(differences, ddof=1) * (1 / 3 + 1) ** 0.5
    figures, p = rows[3][4].split(", p ")
    assert figures.split(" ± ")[3] == f"{100 * corrected:.2f}"
    assert p == "<0.001"


def test_a_csv_file_has_the_means_over_folds_too(folds):
    groups, accuracies = folds
    rows = list(csv.DictReader(csv_text(groups, chosen_baseline(groups, "lr=0.1")).splitlines()))
    assert [row["folds"] for row in rows] == [""] * 6 + ["3"] * 2
    first, second = rows[6:]
    assert (first["overrides"], first["seeds"]) == ("model.inner.lr=0.4", "2")
    means = [accuracies[0.4, fold].mean() for fold in range(3)]
    assert float(first["test_acc"]) == pytest.approx(np.mean(means))
    assert float(first["test_acc_ci95_folds"]) == pytest.approx(stats.t.ppf(0.975, 2) * np.std(means, ddof=1) / 3**0.5)
    assert float(first["p"]) < 0.001
    assert float(first["difference"]) > 0
    assert (second["difference"], second["p"]) == ("", "")


def test_what_the_intervals_of_folds_answer_is_said(folds):
    lines = explanation(folds[0], compared=True)
    assert "Student's t with 2 degrees, too narrow as folds share training classes: it holds the mean in about 84 %" in lines[1]
    assert lines[2].startswith("lr=0.4: bootstrap of folds, then seeds, then tasks: ")
    assert "Nadeau & Bengio 2003" in lines[-1]
    assert explanation(folds[0][:1], compared=False) == []


def test_of_groups_that_are_small_beside_the_rest_the_interval_is_nearly_right(tmp_path):
    """Two alphabets of fifty are left out in turn: 95 of 100 intervals hold the mean, to the percent."""
    for fold in range(2):
        finish(tmp_path, 0.1, 0, 0.5, fold=fold, splits_units={"train": 39, "test": 1})
    line = explanation(groups_of(jobs_in(tmp_path)), compared=False)[1]
    assert line.endswith("Student's t with 1 degree, too narrow as folds share training classes, by little.")


def test_a_sweep_ends_with_the_means_over_folds_or_seeds_that_there_are(tmp_path, sweep, capsys):
    for fold in range(3):
        finish(tmp_path / "folds", 0.1, 0, 0.5, fold=fold)
    finish(tmp_path / "single", 0.1, 0, 0.5)
    ends = {"folds": "mean: bootstrap of folds", "single": "1 completed", "sweep": "lr=0.1  3 "}
    for folder, end in ends.items():
        conclude(tmp_path / folder, jobs_in(tmp_path / folder))
        assert end in capsys.readouterr().out.strip().splitlines()[-1]


def test_a_sweep_without_a_test(tmp_path):
    finish(tmp_path, 0.1, 0, 0.5, tested=False)
    groups = groups_of(jobs_in(tmp_path))
    assert cells(groups, [])[1] == ["experiment=tiny lr=0.1", "1", "60.00", "–", "10"]
    with pytest.raises(UserError, match="nothing to plot"):
        plot(groups, tmp_path / "plot.png")


def test_markdown_is_a_table(sweep):
    lines = markdown(groups_of(jobs_in(sweep[0])), []).splitlines()
    assert lines[:2] == [
        "| config | seeds | validation | test ± tasks ± seeds | seconds |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    assert len(lines) == 4


@pytest.mark.parametrize("words", ["model.inner.lr=7", ""])
def test_a_baseline_that_is_none(sweep, words):
    with pytest.raises(UserError, match=rf"--baseline='{words}' fits [02] configs; choose one of: 'model\.inner\.lr=0\.4'"):
        chosen_baseline(groups_of(jobs_in(sweep[0])), words)


def test_nothing_complete(tmp_path):
    Job(tmp_path / "a").freeze("{}", ["seed=0"], [], "", "")
    with pytest.raises(UserError, match="of 1 job none is complete yet"):
        groups_of(jobs_in(tmp_path))


@pytest.mark.slow
def test_commands_on_a_copy_that_may_only_be_read(sweep, tmp_path):
    """As on another machine, with files for other programs."""
    copy = tmp_path / "copy"
    shutil.copytree(sweep[0], copy)
    for path in copy.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    done = command("table", copy, "--baseline", "model.inner.lr=0.1", "--csv", tmp_path / "t.csv", "--plot", tmp_path / "p.png")
    assert done.code == 0, done.err
    assert "difference to lr=0.1" in done.out
    assert (tmp_path / "t.csv").read_text().startswith("overrides,seeds,val_acc,")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    done = command("status", copy)
    assert done.code == 0, done.err
    assert "6 jobs in" in done.out
    assert "6 completed" in done.out


@pytest.mark.slow
def test_commands_need_no_torch(sweep):
    code = "import sys; sys.argv[1:] = ['table', sys.argv[1]]; import runpy;"
    code += "runpy.run_module('fewshot.sweep', run_name='__main__');"
    code += "assert not {'torch', 'lightning'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(sweep[0])], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("status", "{}/nowhere"), "holds no jobs of a sweep and no runs; choose logs/train/sweeps/NAME or logs/train/runs"),
        (("table", "{}/sweep", "--baseline", "seed=9"), "--baseline='seed=9' fits 0 configs"),
        (("table", "{}/sweep", "--plot", "{}/plot.gif"), "must end in .png, .pdf or .svg"),
    ],
)
def test_mistakes_take_one_line(sweep, tmp_path, arguments, message):
    done = command(*(argument.replace("{}", str(tmp_path)) for argument in arguments))
    assert done.code == 2
    assert message in done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1


@pytest.mark.slow
def test_single_runs_are_put_into_a_table_too(compose_config, tmp_path):
    """Two configs, one of them with two seeds, one of these run twice."""
    runs = (
        ("a", ["seed=0"], 0.5),
        ("b", ["seed=1"], 0.6),
        ("c", ["model.inner.lr=0.1", "seed=0"], 0.7),
        ("d", ["seed=1"], 0.6),
    )
    for name, overrides, accuracy in runs:
        folder = tmp_path / "runs" / name
        (folder / ".hydra").mkdir(parents=True)
        cfg = compose_config(tmp_path, *overrides)
        (folder / "composed.yaml").write_text(OmegaConf.to_yaml(cfg))
        (folder / ".hydra/overrides.yaml").write_text(OmegaConf.to_yaml(["experiment=tiny", *overrides]))
        protocol = {"seed": cfg.seed, "train": {"steps": 6}}
        write_results(
            folder / "results.json", metrics={"val/acc": accuracy}, test=None, protocol=protocol, cost={}, provenance={}
        )
    groups = groups_of(jobs_in(tmp_path / "runs"))
    assert [(group.short, len(group.jobs), group.validated) for group in groups] == [("lr=0.1", 1, 0.7), ("all", 2, 0.55)]
    (tmp_path / "runs/a/results.json").unlink()
    assert [job.state() for job in jobs_in(tmp_path / "runs")].count(State.INTERRUPTED) == 1
    with pytest.raises(UserError, match=r"holds single runs; python train\.py hydra\.run\.dir=RUN goes on with one"):
        retry(parser().parse_args(["retry", str(tmp_path / "runs")]))


def test_a_fold_that_is_there_twice_has_no_mean_over_folds(tmp_path):
    """A key that a newer version of the project adds makes other jobs of the same command, beside the older ones."""
    for fold in (0, 1):
        finish(tmp_path, 0.1, 0, 0.5, fold=fold)
    assert len(cross_validations(groups_of(jobs_in(tmp_path)))) == 1
    finish(tmp_path, 0.1, 0, 0.5, fold=0, newer=True)
    groups = groups_of(jobs_in(tmp_path))
    assert len(groups) == 3
    assert cross_validations(groups) == []
    (line,) = doubled(groups)
    assert line.startswith("no mean over folds: 'data.split.fold=0' is there twice, with configs that differ")
    shown = command("table", tmp_path)
    assert "mean of" not in shown.out
    assert "is there twice" in shown.out
    done = command("table", tmp_path, "--baseline", "fold=0")
    assert done.code == 2
    assert "error: no mean over folds" in done.err
    for script in ("src/fewshot/compare.py", "src/fewshot/report/__main__.py"):
        done = main(script, str(tmp_path))
        assert done.code == 2
        assert "error: no mean over folds" in done.err
