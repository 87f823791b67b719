"""What is written of a result, and that files appear whole or not at all."""

import csv
import json
import re

import numpy as np
import pytest

from fewshot.evaluation.results import SCHEMA, metrics_of, read_results, test_section, write_per_task, write_results
from fewshot.evaluation.table import print_summary
from fewshot.evaluation.task_scores import TaskScores
from fewshot.files import write_json, written_whole

section_of_test = test_section
del test_section  # pytest would take it for a test

ACCURACY, LOSS = np.array([[0.2, 0.5], [0.2, 0.7], [0.2, 0.9]]), np.array([[1.6, 1.0], [1.6, 0.8], [1.6, 0.6]])
SCORES = TaskScores("acc", np.arange(3), {"acc": ACCURACY, "loss": LOSS})


def test_metrics_are_fractions_after_the_last_step():
    metrics = metrics_of("test", SCORES)
    assert metrics["test/acc"] == pytest.approx(0.7)
    assert metrics["test/acc_ci95"] == pytest.approx(4.302653 * 0.2 / 3**0.5, rel=1e-6)
    assert metrics["test/acc_before"] == pytest.approx(0.2)
    assert metrics["test/loss"] == pytest.approx(0.8)


def test_the_test_section_has_every_step():
    section = section_of_test(SCORES, "test_tasks.csv")
    assert section["tasks"] == 3
    assert section["acc_per_step"] == pytest.approx([0.2, 0.7])
    assert section["acc_per_step_ci95"] == pytest.approx([0, 4.302653 * 0.2 / 3**0.5])
    assert "loss_per_step" not in section
    assert section["per_task_file"] == "test_tasks.csv"


def test_every_score_of_a_regression_has_its_steps():
    scores = TaskScores("rmse", np.arange(3), {"rmse": ACCURACY, "mse": ACCURACY**2, "loss": LOSS})
    section = section_of_test(scores, "test_tasks.csv")
    assert section["rmse_per_step"] == pytest.approx([0.2, 0.7])
    assert section["mse_per_step"] == pytest.approx([0.04, (0.25 + 0.49 + 0.81) / 3])


def test_the_tasks_of_a_csv_give_back_the_mean(tmp_path):
    write_per_task(tmp_path / "tasks.csv", SCORES)
    rows = list(csv.DictReader((tmp_path / "tasks.csv").read_text().splitlines()))
    assert [int(row["task"]) for row in rows] == [0, 1, 2]
    assert np.mean([float(row["acc_1"]) for row in rows]) == pytest.approx(0.7)
    assert float(rows[2]["loss_1"]) == pytest.approx(0.6)


def test_results_carry_their_schema(tmp_path):
    write_results(tmp_path / "results.json", status="completed", metrics={"test/acc": 0.7})
    assert json.loads((tmp_path / "results.json").read_text()) == {
        "schema": SCHEMA,
        "status": "completed",
        "metrics": {"test/acc": 0.7},
    }


def test_what_is_no_number_is_null(tmp_path):
    write_json(tmp_path / "results.json", {"metrics": {"test/acc_ci95": float("nan")}, "steps": [1.0, float("inf")]})
    text = (tmp_path / "results.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"metrics": {"test/acc_ci95": None}, "steps": [1.0, None]}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "results.json"
    write_json(path, {"old": 1})
    with pytest.raises(OSError, match="disk"), written_whole(path) as file:  # noqa: PT012  the block is what fails
        file.write(b"half a fi")
        raise OSError("disk full")
    assert json.loads(path.read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


PROTOCOL = {"model": "MAML", "backbone": "Conv4", "data": "glyphs", "ways": 5, "shots": 1, "queries": 15, "val_tasks": 200,
            "batch_norm": "transductive", "eval_steps": 3, "seed": 0}  # fmt: skip

UNKNOWN = {"test/unknown_auroc_energy": 0.87, "test/unknown_auroc_energy_ci95": 0.05}


def table_of(scores, folder="/logs/run", **protocol):
    """Prints the table of a test and a validation."""
    metrics = {**metrics_of("test", scores), **metrics_of("val", scores), **UNKNOWN}
    print_summary(metrics, section_of_test(scores, "f"), PROTOCOL | protocol, {"peak_rss_bytes": 2**30}, folder)


def test_the_table_says_that_several_checkpoints_answered(capsys):
    table_of(SCORES, ensemble=5)
    assert "ensemble of 5 checkpoints, transductive batch norm, 3 steps" in capsys.readouterr().out


def test_the_table_says_accuracy_interval_and_folder(capsys):
    table_of(SCORES)
    out = capsys.readouterr().out
    for text in (
        "MAML · Conv4 · glyphs · 5-way 1-shot",
        "70.00 ± 49.68 %  (3 tasks on unseen classes)",
        "20.0 → 70.0",
        "1024 MiB",
        "AUROC 87.00 ± 5.00 by energy %",
        "everything in /logs/run\n",
    ):
        assert text in out
    assert "not finite" not in out


def test_tasks_that_are_given_all_but_the_queries_are_called_so(capsys):
    table_of(SCORES, shots="rest", ways=1)
    assert "glyphs · all other rows as shots, 15 queries\n" in capsys.readouterr().out


def test_one_task_has_no_interval(capsys):
    table_of(TaskScores("acc", np.arange(1), {"acc": ACCURACY[:1], "loss": LOSS[:1]}))
    out = capsys.readouterr().out
    assert "50.00 %, no interval  (1 task on unseen classes)" in out
    assert "nan" not in out


def test_outputs_that_are_not_finite_are_said(capsys):
    scores = TaskScores("acc", np.arange(3), {"acc": ACCURACY, "loss": np.array([[1.6, 1.0], [1.6, np.nan], [1.6, np.inf]])})
    table_of(scores)
    assert "outputs of 2 of the test tasks; such queries count as wrong" in capsys.readouterr().out
    assert section_of_test(scores, "f")["nonfinite_tasks"] == 2
    assert metrics_of("test", scores)["test/nonfinite_tasks"] == 2


@pytest.mark.parametrize("columns", ["40", "80"])
def test_a_narrow_terminal_cuts_nothing(capsys, monkeypatch, columns):
    """The folder stands on one line, so that it can be copied; every word of the table is there."""
    folder = "/a/very/long/path/" + "folder/" * 20 + "run"
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, for rich
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", columns)
    table_of(SCORES, folder)
    out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert f"everything in {folder}\n" in out
    assert "…" not in out
    framed = [line for line in out.splitlines() if line.startswith(("│", "┌"))]
    assert max(len(line) for line in framed) <= int(columns)
    assert "unseen" in out


def test_what_is_not_finite_is_read_as_such_wherever_it_is_shown(tmp_path, capsys):
    """A run whose tasks diverged, and a control of one task, which has no interval: their tables are printed again."""
    path, control = tmp_path / "results.json", {"test/acc": 0.2, "test/acc_ci95": np.nan}
    write_results(
        path,
        metrics={"test/acc": np.nan, "test/acc_ci95": np.nan},
        test={"tasks": 1, "acc_per_step": [0.5, np.nan], "acc_per_step_ci95": [np.nan, np.nan], "per_task_file": ""},
        protocol={
            "model": "MAML", "backbone": "Conv4", "data": "toy", "ways": 5, "shots": 1, "queries": 1, "eval_steps": 1,
            "batch_norm": "none", "seed": 0, "train": {},
        },
        cost={"peak_rss_bytes": 0},
        provenance={},
        controls={"shuffled_labels": {"folder": "", "chance": 0.2, "metrics": control}},
    )  # fmt: skip
    results = read_results(path)
    assert results["test"]["acc_per_step"] == [0.5, pytest.approx(np.nan, nan_ok=True)]
    sections = (results[name] for name in ("metrics", "test", "protocol", "cost"))
    print_summary(*sections, "here", (), results["controls"])
    assert "20.00 %, no interval" in capsys.readouterr().out
