"""Trained on each of some datasets, tested on all of others."""

import csv

import numpy as np
import pytest

from fewshot.errors import UserError
from fewshot.evaluation.comparison import EvaluatedRun
from fewshot.matrix import __main__ as command
from fewshot.matrix.arguments import state_of
from fewshot.matrix.cross_domain import Plan, markdown, measured, plan, require_fit, write
from fewshot.sweep.job import jobs_in
from tests.entry import CONFIG_DIR
from tests.forked import forked_jobs  # noqa: F401

LEVELS = {("a", "a"): 0.9, ("a", "b"): 0.4, ("b", "a"): 0.3, ("b", "b"): 0.8}


def of_run(level, seed):
    return EvaluatedRun(seed, "acc", np.array([level - 0.1, level + 0.1]) + 0.02 * seed, "list")


def cells(of):
    """Two seeds of each source, the second two points better."""
    tests = [(s, {t: of_run(LEVELS[s, t], seed) for t in of.targets}) for s in of.sources for seed in (0, 1)]
    return measured(of, tests)


def test_a_plan_is_of_one_config_over_seeds(tmp_path):
    of = plan(["a", "b"], [], ["model=protonet", "seed=0,1", "launcher=local", CONFIG_DIR], tmp_path)
    assert (of.sources, of.targets, of.seeds) == (("a", "b"), ("a", "b"), ("0", "1"))
    assert of.overrides == ("model=protonet", "launcher=local", CONFIG_DIR)
    assert plan(["a"], ["b"], ["model=protonet"], None).folder.parent.name == "matrix"
    again = plan(["a", "c"], ["b"], ["seed=5", "model=protonet", "launcher=serial"], tmp_path)
    assert again.training == of.training  # which has what is trained already
    assert plan(["a"], [], ["model=maml"], tmp_path).training != of.training


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=maml,protonet"], "model=maml,protonet has several values, and a matrix is of one config"),
        (["data=glyphs"], "data=glyphs: sources=A,B are the datasets"),
        (["--fast"], "--fast is no flag"),
    ],
)
def test_what_is_no_plan_is_told_in_a_line(tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        plan(["a"], [], arguments, tmp_path)
    with pytest.raises(UserError, match=r"sources=\?\?\? must name datasets to train on"):
        command.cross_domain(["targets=a"])


def test_cells_are_means_over_seeds_and_the_diagonal_is_marked(tmp_path):
    of = Plan(("a", "b"), ("b", "a"), ("0", "1"), (), tmp_path)
    found = cells(of)
    assert found["b", "a"].mean == pytest.approx(0.31)
    assert found["b", "a"].ci95_seeds == pytest.approx(12.7062 * 0.01, rel=1e-4)
    text = write(of, found, "acc")
    assert text == (tmp_path / "matrix.md").read_text() == markdown(of, found, "acc")
    lines = text.splitlines()
    assert lines[0] == "| trained on | b | a |"
    assert lines[2] == "| a | 41.00 ± 127.06 ± 12.71 | **91.00 ± 127.06 ± 12.71** |"
    rows = list(csv.DictReader((tmp_path / "matrix.csv").read_text().splitlines()))
    assert [(row["trained_on"], row["tested_on"], row["same"]) for row in rows] == [
        ("a", "b", "False"), ("a", "a", "True"), ("b", "b", "True"), ("b", "a", "False"),
    ]  # fmt: skip
    assert float(rows[0]["acc"]) == pytest.approx(0.41)
    assert (tmp_path / "matrix.png").read_bytes().startswith(b"\x89PNG")


def test_pictures_of_another_size_are_refused_before_anything_is_trained(tmp_path):
    of = plan(["toy"], ["glyphs"], ["experiment=tiny", CONFIG_DIR, f"paths.cache_dir={tmp_path}"], tmp_path / "out")
    with pytest.raises(UserError, match=r"what toy trains cannot be tested on glyphs: data\.image_shape=\[1, 16, 16\] is not"):
        require_fit(of)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("forked_jobs", "no_pictures")
def test_a_source_is_trained_once_and_a_cell_is_what_eval_says(tmp_path, monkeypatch):
    """A target is tested by its own rules, as seen by the source; a second command finds what the first has done."""
    monkeypatch.setattr("sys.argv", ["matrix"])
    shared = (CONFIG_DIR, "experiment=tiny", f"paths.cache_dir={tmp_path / 'cache'}", "launcher=local", "hydra.launcher.jobs=2")
    for _ in range(2):
        command.cross_domain(["sources=toy_other", "targets=toy,toy_other", f"out={tmp_path / 'out'}", *shared])
    rows = {row["tested_on"]: row for row in csv.DictReader((tmp_path / "out/matrix.csv").read_text().splitlines())}
    (run,) = jobs_in(next((tmp_path / "out/training").iterdir()))
    tests = jobs_in(tmp_path / "out/evaluations" / f"{run.name}-{state_of(run.folder)}")
    assert [len(job.record()["attempts"]) for job in (run, *tests)] == [1, 1, 1]
    for job, (target, within) in zip(tests, {"toy": None, "toy_other": "group"}.items(), strict=True):
        results = job.results()
        assert results["protocol"]["within"] == within
        assert job.config().data.mean == [0.5]  # of what was trained on
        assert float(rows[target]["acc"]) == pytest.approx(results["metrics"]["test/acc"], abs=1e-8)
