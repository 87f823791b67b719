"""How far jobs have come: read from their files, and said at every tenth."""

import os
from datetime import datetime, timedelta, timezone

import pytest

from fewshot.sweep import report
from fewshot.sweep.job import Job
from fewshot.sweep.report import Progress, labels_of
from fewshot.sweep.training_progress import duration, training_of

CONFIG = "trainer: {max_steps: 400}\ncallbacks: {best: {monitor: val/acc, mode: max}}\n"


def write_metrics(job, *rows):
    lines = [",".join(["step", "train/loss", "val/acc"]), *(",".join(map(str, row)) for row in rows)]
    (job.folder / "metrics.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def job(tmp_path):
    made = Job(tmp_path / "0123456789ab")
    made.freeze(CONFIG, ["model.inner.lr=0.1"], [], "", "")
    return made


def test_step_best_and_time_left(job):
    """An attempt that began 300 s ago with step 100 has done 100 more: as many again take as long."""
    assert training_of(job) is None
    write_metrics(job, (0, 1.0, ""), (99, 1.0, 0.5))
    with job.locked():
        job.begin(os.getpid())
    record = job.record()
    attempt = record["attempts"][0]
    assert attempt["first_step"] == 100
    begun = datetime.now(timezone.utc) - timedelta(seconds=300)
    job._write(record, [{**attempt, "started": begun.isoformat()}])
    assert str(training_of(job)) == "step 100/400, best val/acc 50.00 %"
    write_metrics(job, (0, 1.0, ""), (99, 1.0, 0.5), (149, 1.0, 0.75), (199, 1.0, 0.7))
    assert str(training_of(job)) == "step 200/400, best val/acc 75.00 %", "nobody runs it"
    with job.locked():
        training = training_of(job)
    assert (training.step, training.steps, training.best) == (200, 400, 0.75)
    assert training.seconds_left == pytest.approx(600, abs=10)
    assert str(training) == "step 200/400, best val/acc 75.00 %, 10 min left"


def test_a_line_for_every_tenth(job, monkeypatch, capsys):
    monkeypatch.setattr(report, "LOOK", 0.0)
    progress = Progress(labels_of([job]))
    for step in (20, 38, 39, 79, 80, 239):
        write_metrics(job, (step, 1.0, ""))
        progress.running([job])
    assert capsys.readouterr().out.splitlines() == [f"running      lr=0.1  step {step}/400" for step in (40, 80, 240)]


@pytest.mark.parametrize(("seconds", "words"), [(40, "40 s"), (100, "2 min"), (4800, "80 min"), (9000, "2 h 30 min")])
def test_durations(seconds, words):
    assert duration(seconds) == words
