"""A job's record and what it says of the job."""

import json
import math
import os
import signal
import time
from threading import Thread

import pytest
from filelock import Timeout

from fewshot.errors import UserError
from fewshot.evaluation.results import write_results
from fewshot.sweep.job import Job, State, jobs_in
from fewshot.sweep.queue import JobQueue
from fewshot.sweep.report import exit_code


@pytest.fixture
def job(tmp_path):
    made = Job(tmp_path / "0123456789ab")
    made.freeze("seed: 0\n", ["seed=0"], ["train.py", "seed=0"], "module:function", "group")
    return made


def complete(job, **metrics):
    protocol = {"seed": 0, "train": {"steps": 1}}
    write_results(job.folder / "results.json", metrics=metrics, test=None, protocol=protocol, cost={}, provenance={})


def attempt(job, code):
    with job.locked():
        job.begin(os.getpid())
        if code is not None:
            job.end(code)


@pytest.mark.parametrize(
    ("codes", "state", "failures"),
    [
        ([], State.WAITING, 0),
        ([None], State.INTERRUPTED, 0),
        ([143], State.INTERRUPTED, 0),
        ([130], State.INTERRUPTED, 0),
        ([-15], State.INTERRUPTED, 0),
        ([0], State.INTERRUPTED, 0),  # its results were deleted
        ([4], State.PRUNED, 0),
        ([1], State.FAILED, 1),
        ([2, 143, -9], State.FAILED, 2),
        ([1, None], State.INTERRUPTED, 1),
    ],
)
def test_where_a_job_stands(job, codes, state, failures):
    for code in codes:
        attempt(job, code)
    assert (job.state(), job.failures()) == (state, failures)
    complete(job)
    assert job.state() == State.COMPLETED


def test_a_failure_keeps_the_last_lines_of_the_log(job):
    (job.folder / "job.log").write_text("".join(f"line {i}\n\n" for i in range(10_000)))
    attempt(job, 1)
    assert job.record()["attempts"][-1]["log_tail"] == [f"line {i}" for i in range(9_980, 10_000)]
    attempt(job, 0)
    assert "log_tail" not in job.record()["attempts"][-1]


def test_a_job_that_a_process_holds_is_running_until_that_process_dies(job):
    ready = job.folder / "ready"
    child = os.fork()
    if not child:
        with job.locked():
            ready.touch()
            time.sleep(600)
    while not ready.exists():
        time.sleep(0.01)
    assert job.state() == State.RUNNING
    with pytest.raises(Timeout), job.locked():
        pass
    before = job.record()
    job.freeze("seed: 1\n", [], [], "", "")
    assert job.record() == before
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert job.state() == State.WAITING


def test_freezing_waits_for_the_record_that_another_command_is_about_to_write(tmp_path):
    job = Job(tmp_path / "0123456789ab")
    job.folder.mkdir()
    with job.locked():
        thread = Thread(target=job.freeze, args=("a: 1\n", [], [], "", ""))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        job._write({"overrides": ["written=by_the_other"], "command": [], "function": "", "group": ""}, [])
        thread.join(10)
        assert not thread.is_alive()
    assert job.record()["overrides"] == ["written=by_the_other"]


def test_freezing_again_keeps_the_attempts(job):
    attempt(job, 1)
    job.freeze("seed: 0\n", ["seed=0"], ["train.py", "seed=0"], "module:function", "group")
    assert job.failures() == 1


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": 1}', '{"schema": 2, "attempts": []}', "\x00", "[" * 100_000])
def test_a_broken_record_takes_one_line(job, text):
    (job.folder / "job.json").write_text(text)
    with pytest.raises(UserError, match=r"job.json .* delete its folder to run the job anew"):
        job.state()


def test_a_folder_without_jobs(tmp_path):
    with pytest.raises(UserError, match="holds no jobs of a sweep and no runs"):
        jobs_in(tmp_path)


def test_what_is_left_to_do(tmp_path):
    """Complete: nothing. New, interrupted: to run. Failed before: once more. Failed since, anywhere: no more."""
    jobs = [Job(tmp_path / name) for name in ("complete", "failed", "interrupted", "new")]
    for job in jobs:
        job.freeze("", [], [], "", "")
    complete(jobs[0])
    attempt(jobs[1], 1)
    attempt(jobs[2], 143)
    queue, elsewhere = JobQueue(jobs), JobQueue(jobs)
    assert queue.next() == jobs[1]
    attempt(jobs[1], 1)
    queue.ended(jobs[1])
    assert [elsewhere.next(), elsewhere.next(), elsewhere.next()] == [jobs[2], jobs[3], None]
    assert not elsewhere.open()
    assert [queue.next(), queue.next(), queue.next()] == [jobs[2], jobs[3], None]
    assert not queue.open()
    assert JobQueue(jobs).next() == jobs[1]


def test_what_others_run_is_waited_for_and_taken_over(job):
    queue = JobQueue([job])
    with job.locked():
        assert queue.next() is None
        assert queue.open()
    assert queue.next() == job
    with job.locked():
        queue.ended(job)  # somebody else was faster
    assert queue.open()


def test_the_exit_code_counts_failures(tmp_path):
    jobs = [Job(tmp_path / str(i)) for i in range(120)]
    for job in jobs:
        job.freeze("", [], [], "", "")
        attempt(job, 1)
    assert exit_code(jobs[:1]) == 11
    assert exit_code(jobs[:7]) == 17
    assert exit_code(jobs) == 110
    for job in jobs[:5]:
        complete(job, **{"val/acc": math.nan})
    assert exit_code(jobs[:5]) == 0
    assert exit_code(jobs[:6]) == 11
    attempt(jobs[5], 143)
    assert exit_code(jobs[:6]) == 143


def test_records_are_json_that_others_can_read(job):
    attempt(job, 1)
    record = json.loads((job.folder / "job.json").read_text())
    assert set(record) == {"schema", "overrides", "command", "function", "group", "attempts"}
    assert set(record["attempts"][0]) == {"started", "ended", "host", "pid", "first_step", "exit_code", "log_tail"}
