"""One checkpoint under every protocol: each cell is what an evaluation by that protocol says."""

import csv
import json

import numpy as np
import pytest
import yaml

from fewshot.errors import UserError
from fewshot.evaluation.intervals import Interval
from fewshot.matrix import __main__ as command
from fewshot.matrix.protocol import Plan, Protocol, evaluate, markdown, measured, moves, plan, write
from fewshot.sweep.job import Job
from tests.entry import CONFIG_DIR, QUICK, main
from tests.forked import forked_jobs  # noqa: F401

OF = Plan(
    run="run", split="test", queries=(1, 15), batch_norms=("transductive", "inductive"), steps=(0, 5), tasks=(2, 4),
    adapts=True, own=Protocol(15, "transductive", 5, 4), left_out=(),
)  # fmt: skip


def of_a_run(folder, model="MAML", batch_norm="transductive", keys=("inner", "batch_norm")):
    """A run's folder as far as a plan reads it."""
    protocol = {"model": model, "backbone": "Conv4", "batch_norm": batch_norm, "eval_steps": 3, "queries": 15, "train": {}}
    results = {"schema": 2, "metrics": {}, "test": {}, "cost": {}, "provenance": {}}
    results["protocol"] = protocol | {"test_tasks": 600, "val_tasks": 200}
    (folder / "results.json").write_text(json.dumps(results))
    size = {"ways": 5, "shots": 1, "queries": 15, "meta_batch_size": 4}
    groups = {group: {} for group in ("trainer", "callbacks", "logger", "paths")}
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": size, "model": dict.fromkeys(keys), "seed": 0, **groups}))
    return folder


def test_a_plan_has_the_papers_protocols_and_the_runs_own_steps(tmp_path):
    found = plan(of_a_run(tmp_path), "val", {})
    assert found.batch_norms == ("transductive", "inductive")
    assert (found.queries, found.steps, found.tasks) == ((1, 5, 15), (0, 1, 3, 5, 10, 20), (600, 2000))
    assert found.overrides[1:] == ["split=val", "data.val_tasks=2000", "logger=csv", "model.inner.eval_steps=20"]
    assert found.varied == ["data.val.queries=1,5,15", "model.batch_norm=transductive,inductive"]
    assert found.own == Protocol(15, "transductive", 3, 200)


@pytest.mark.parametrize(
    ("model", "norm", "keys", "norms", "steps", "reasons"),
    [
        ("ProtoNet", "running", ["batch_norm"], ("running", "transductive", "inductive"), 1, ["no adaptation steps"]),
        ("RelationNet", "running", ["batch_norm"], ("running", "transductive"), 1, ["no adaptation steps", "pairs of support"]),
        ("MAML", "none", ["inner", "batch_norm"], (None,), 6, ["no batch norm"]),
    ],
)
def test_what_a_model_does_not_have_is_left_out_and_said(tmp_path, model, norm, keys, norms, steps, reasons):
    found = plan(of_a_run(tmp_path, model, norm, keys), "test", {})
    assert (found.batch_norms, len(found.steps)) == (norms, steps)
    for reason, said in zip(reasons, found.left_out, strict=True):
        assert reason in said


def test_cells_are_the_first_tasks_after_each_step(tmp_path):
    figures = {}
    for number, (queries, norm) in enumerate([(1, "transductive"), (1, "inductive"), (15, "transductive"), (15, "inductive")]):
        job = Job(tmp_path / str(number))
        job.freeze("{}", [f"data.test.queries={queries}"], ["eval.py"], "module:function", "group")
        scores = np.random.default_rng(number).uniform(size=(4, 6)).round(6)
        rows = [f"{task},{','.join(map(str, scores[task]))}" for task in (3, 0, 1, 2)]
        header = ",".join(["task", *(f"acc_{step}" for step in range(6))])
        (job.folder / "test_tasks.csv").write_text("\n".join([header, *rows]) + "\n")
        of_a_run(job.folder)
        results = json.loads((job.folder / "results.json").read_text())
        results["protocol"] |= {"queries": queries, "batch_norm": norm}
        results["test"] = {"per_task_file": "test_tasks.csv"}
        (job.folder / "results.json").write_text(json.dumps(results))
        figures[queries, norm] = scores
    cells = measured(OF, tmp_path)
    assert len(cells) == 16
    assert cells[Protocol(1, "inductive", 5, 2)].mean == pytest.approx(figures[1, "inductive"][:2, 5].mean())
    assert cells[Protocol(15, "transductive", 0, 4)].mean == pytest.approx(figures[15, "transductive"][:, 0].mean())


def cells():
    """One query moves the figure by 0.02, inductive batch norm by -0.1, no step by -0.3, fewer tasks by 0.01."""
    return {
        Protocol(q, n, s, t): Interval(
            0.5 + 0.02 * (q == 1) - 0.1 * (n == "inductive") - 0.3 * (s == 0) + 0.01 * (t == 2), 0.05
        )
        for q in OF.queries
        for n in OF.batch_norms
        for s in OF.steps
        for t in OF.tasks
    }


def test_what_moves_the_figure_most_comes_first():
    found = moves(OF, cells())
    assert list(found) == ["steps", "batch norm", "queries", "tasks"]
    assert found["steps"] == (0, pytest.approx(-0.3))
    text = markdown(OF, cells(), "acc")
    assert "| 15 | inductive | 4 | 10.00 ± 5.00 | 40.00 ± 5.00 |" in text
    assert "steps 0: -30.00; batch norm inductive: -10.00; queries 1: +2.00; tasks 2: +1.00." in text


def test_the_files_have_every_cell(tmp_path):
    write(OF, cells(), "acc", tmp_path)
    rows = list(csv.DictReader((tmp_path / "matrix.csv").read_text().splitlines()))
    assert len(rows) == 16
    assert rows[0] == {
        "queries": "1", "batch_norm": "transductive", "steps": "0", "tasks": "2", "acc": "0.23", "acc_ci95": "0.05",
    }  # fmt: skip
    assert (tmp_path / "matrix.png").read_bytes().startswith(b"\x89PNG")


def test_a_part_with_fewer_tasks_than_any_cell_is_refused_in_a_line(tmp_path):
    job = Job(tmp_path / "evaluations/a")
    job.freeze("{}", [], ["eval.py"], "module:function", "group")
    of_a_run(job.folder)
    results = json.loads((job.folder / "results.json").read_text())
    results["test"] = {"per_task_file": "test_tasks.csv"}
    (job.folder / "results.json").write_text(json.dumps(results))
    (job.folder / "test_tasks.csv").write_text("task,acc_0,acc_5\n0,0.5,0.5\n")
    with pytest.raises(UserError, match="tasks=2,4 but the test part of run has 1; choose tasks=1 or fewer"):
        measured(OF, tmp_path / "evaluations")


def test_users_with_as_many_queries_as_they_have_are_no_protocol_to_vary(tmp_path):
    path = of_a_run(tmp_path) / "results.json"
    path.write_text(path.read_text().replace('"queries": 15', '"queries": "rest"'))
    with pytest.raises(UserError, match="whose queries are rest"):
        plan(tmp_path, "test", {})


def test_numbers_of_tasks_that_there_are_not_are_left_out(tmp_path):
    few = {cell: interval for cell, interval in cells().items() if cell.tasks == 2}
    assert "There are fewer than 4 tasks." in write(OF, few, "acc", tmp_path)


def test_evaluations_of_another_run_or_of_an_earlier_checkpoint_are_no_part_of_a_matrix(tmp_path, monkeypatch):
    """Though all are written into one folder, by the same words."""
    monkeypatch.setattr("sys.argv", ["matrix"])
    monkeypatch.setattr("fewshot.matrix.protocol.run_command", lambda *_, **__: None)
    runs = [tmp_path / name for name in ("one", "other")]
    for number, run in enumerate(runs):
        run.mkdir()
        results = json.loads((of_a_run(run) / "results.json").read_text()) | {"metrics": {"val/acc": number}}
        (run / "results.json").write_text(json.dumps(results))
    folders = {evaluate(plan(run, "test", {}), tmp_path / "out", []) for run in runs}
    again = evaluate(plan(runs[0], "test", {}), tmp_path / "out", [])
    assert len(folders) == 2
    assert again in folders
    (runs[0] / "results.json").write_text((runs[0] / "results.json").read_text().replace("0}", "0.5}"))  # trained further
    assert evaluate(plan(runs[0], "test", {}), tmp_path / "out", []) not in folders
    with pytest.raises(UserError, match=r"data\.test\.shots=1,5 has several values, and a matrix is of one"):
        evaluate(plan(runs[0], "test", {}), tmp_path / "out", [CONFIG_DIR, "data.test.shots=1,5"])


def test_two_evaluations_of_one_cell_are_refused(tmp_path):
    for name in ("a", "b"):
        job = Job(tmp_path / name)
        job.freeze("{}", [], ["eval.py"], "module:function", "group")
        of_a_run(job.folder)
        results = json.loads((job.folder / "results.json").read_text()) | {"test": {"per_task_file": "test_tasks.csv"}}
        (job.folder / "results.json").write_text(json.dumps(results))
        lines = [f"{task},0.5,0.5" for task in range(4)]
        (job.folder / "test_tasks.csv").write_text("\n".join(["task,acc_0,acc_5", *lines]) + "\n")
    with pytest.raises(UserError, match="has two evaluations of one protocol"):
        measured(OF, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "run=... must name the folder"),
        (["run=nowhere"], "run=nowhere is no folder of a complete run"),
        (["run=RUN", "split=train"], "split=train is unknown; choose one of: test, val"),
        (["run=RUN", "queries=0"], "queries=0 must be whole numbers of at least 1"),
        (["run=RUN", "steps=five"], "steps=five must be whole numbers of at least 0"),
    ],
)
def test_mistakes_are_told_in_a_line(tmp_path, arguments, message):
    of_a_run(tmp_path)
    with pytest.raises(UserError, match=message):
        command.protocol([argument.replace("RUN", str(tmp_path)) for argument in arguments])


@pytest.mark.slow
@pytest.mark.usefixtures("forked_jobs", "no_pictures")
def test_a_cell_is_what_eval_says(tmp_path, monkeypatch, capsys):
    """And a second command finds what the first has evaluated."""
    short = (*QUICK, "model.inner.eval_steps=3", "data.val_tasks=8", f"paths.cache_dir={tmp_path / 'cache'}")
    run = tmp_path / "run"
    assert main("train.py", *short, f"hydra.run.dir={run}").code == 0
    evaluation = main(
        "eval.py", CONFIG_DIR, f"run={run}", "split=val", "data.val.queries=2", "data.val_tasks=5",
        "model.batch_norm=inductive", "model.inner.eval_steps=1", f"hydra.run.dir={tmp_path / 'eval'}",
    )  # fmt: skip
    assert evaluation.code == 0, evaluation.err
    monkeypatch.setattr("sys.argv", ["matrix"])
    for _ in range(2):
        command.protocol([f"run={run}", "split=val", "queries=2", "steps=1", "tasks=5,8", CONFIG_DIR])
    rows = list(csv.DictReader((run / "matrix/matrix.csv").read_text().splitlines()))
    assert [(row["batch_norm"], row["steps"], row["tasks"]) for row in rows] == [
        (norm, steps, tasks) for norm in ("transductive", "inductive") for steps in ("1", "3") for tasks in ("5", "8")
    ]
    (cell,) = [row for row in rows if (row["batch_norm"], row["steps"], row["tasks"]) == ("inductive", "1", "5")]
    expected = json.loads((tmp_path / "eval/results.json").read_text())
    assert float(cell["acc"]) == pytest.approx(expected["metrics"]["val/acc"], abs=1e-9)
    assert expected["val"]["per_task_file"] == "val_tasks.csv"
    assert "2 completed" in capsys.readouterr().out
