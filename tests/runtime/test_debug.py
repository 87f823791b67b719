"""The debug groups, each run as a user types it."""

import csv
import json

import pytest

from tests.entry import QUICK, main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]


@pytest.fixture
def debug(tmp_path):
    def run(name, *more):
        done = main(
            "train.py", *QUICK, f"debug={name}", f"hydra.run.dir={tmp_path / 'run'}", f"paths.cache_dir={tmp_path}", *more
        )
        assert done.code == 0, done.err
        return tmp_path / "run"

    return run


def results(run):
    return json.loads((run / "results.json").read_text())


def column(run, name):
    return [float(row[name]) for row in csv.DictReader((run / "metrics.csv").read_text().splitlines()) if row.get(name)]


def test_default_goes_through_everything(debug):
    run = debug("default")
    assert results(run)["protocol"]["train"]["steps"] == 4
    assert results(run)["test"]["tasks"] == 10


def test_runs_lie_apart():
    done = main("train.py", *QUICK, "debug=limit", "--cfg", "hydra", "--package", "hydra.job")
    assert "name: debug" in done.out


def test_fdr_takes_one_meta_batch_of_everything_and_logs_nothing(debug):
    run = debug("fdr")
    assert results(run)["protocol"]["train"]["steps"] == 1
    assert results(run)["test"]["tasks"] == 4
    assert not (run / "metrics.csv").exists()
    assert not list(run.rglob("events.out.tfevents.*"))


def test_limit_is_short(debug):
    run = debug("limit")
    assert results(run)["protocol"]["train"]["steps"] == 30
    assert results(run)["test"]["tasks"] == 30


def test_overfit_learns_a_few_meta_batches_by_heart(debug):
    run = debug("overfit", "trainer.overfit_batches=3", "model.optimizer.lr=0.01", "callbacks.progress.refresh_rate=0")
    losses = column(run, "train/loss")
    assert len(losses) == 150
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])


def test_profiler_leaves_a_table(debug):
    run = debug("profiler")
    assert "run_training_batch" in (run / "fit-profile.txt").read_text()
