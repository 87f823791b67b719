"""Sweeps as a user types them: real processes, real kills. Most jobs are forked, for speed; some start anew."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from fewshot.sweep.job import Job, State, jobs_in
from fewshot.tasks.streams import stream_key, uniforms
from tests.entry import QUICK, TINY, main
from tests.forked import fork, forked_jobs, wait_for  # noqa: F401
from tests.runtime.sameness import what_a_run_left

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.usefixtures("no_pictures")]
forked = pytest.mark.usefixtures("forked_jobs")
RECIPE = (*QUICK, "callbacks.progress.refresh_rate=0")
LENGTH = ("trainer.max_steps=150", "trainer.val_check_interval=50", "callbacks.last.every_n_steps=5")
LONG = (*RECIPE, *LENGTH)


def arguments(folder, *more, recipe=RECIPE):
    return ["-m", *recipe, f"hydra.sweep.dir={folder / 'sweep'}", f"paths.cache_dir={folder / 'cache'}", *more]


def sweep(folder, *more, recipe=RECIPE):
    """Runs the command to its end: its exit code and what it said."""
    output = folder / "out"
    code = fork("train.py", *arguments(folder, *more, recipe=recipe), output=output).wait(timeout=1200)
    said, _ = output.read_text(), output.unlink()
    return code, said


def values(job, *keys):
    """What a job's overrides say of some keys."""
    overrides = dict(override.split("=", 1) for override in job.record()["overrides"])
    return tuple(overrides[key] for key in keys)


def codes(job):
    return [attempt.get("exit_code") for attempt in job.record()["attempts"]]


def processes_below(pid):
    """All that a process has started, and what they have."""
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return [*children, *(below for child in children for below in processes_below(child))]


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def kill(process, whole):
    """SIGKILL to a sweep, and to all that it has started or to nothing else."""
    below = processes_below(process.pid)
    for pid in [process.pid, *below] if whole else [process.pid]:
        os.kill(pid, signal.SIGKILL)
    process.wait()
    return below


@forked
def test_a_failure_stops_nobody_is_recorded_and_tried_once_more(tmp_path):
    code, said = sweep(tmp_path, "data.ways=30,3,2", "launcher=local")
    assert code == 11, said
    assert "error: 1 of 3 jobs failed; the same command tries them once more" in said
    assert "exit code 2: error: data.train.ways=30 but the train split has 10 classes" in said
    jobs = {int(*values(job, "data.ways")): job for job in jobs_in(tmp_path / "sweep")}
    assert [codes(jobs[ways]) for ways in (30, 3, 2)] == [[2], [0], [0]]
    assert "data.train.ways=30 but" in jobs[30].record()["attempts"][0]["log_tail"][-1]

    again, said = sweep(tmp_path, "data.ways=30,3,2,4", "launcher=serial")
    assert again == 11
    assert "4 jobs in" in said
    assert "1 waiting, 1 failed, 2 completed; each says more" in said
    jobs = {int(*values(job, "data.ways")): job for job in jobs_in(tmp_path / "sweep")}
    assert [codes(jobs[ways]) for ways in (30, 3, 2, 4)] == [[2, 2], [0], [0], [0]]


def test_a_job_leaves_what_the_run_alone_leaves(tmp_path):
    """Also its folder: config, Hydra's own files, the command that would run it alone."""
    assert sweep(tmp_path, "seed=3")[0] == 0
    (job,) = jobs_in(tmp_path / "sweep")
    alone = tmp_path / "alone"
    assert main("train.py", *RECIPE, "seed=3", f"paths.cache_dir={tmp_path / 'cache'}", f"hydra.run.dir={alone}").code == 0
    left, expected = what_a_run_left(job.folder), what_a_run_left(alone)
    for key in expected:
        assert left[key] == expected[key], key
    assert {path.relative_to(alone) for path in alone.rglob("*") if "events" not in path.name} <= {
        path.relative_to(job.folder) for path in job.folder.rglob("*")
    }
    command = json.loads((job.folder / "results.json").read_text())["provenance"]["command"]
    unquoted = [[word.replace("'", "") for word in words] for words in (command, RECIPE)]  # Hydra's quotes say the same
    assert unquoted[0] == ["train.py", *unquoted[1], f"paths.cache_dir={tmp_path / 'cache'}", "seed=3"]


@forked
def test_asked_to_stop_all_jobs_stop_and_can_go_on(tmp_path):
    for signum, expected, sign in (
        (signal.SIGINT, 130, "Checkpoint after"),
        (signal.SIGTERM, 143, "Continuing after outer step"),
    ):
        process = fork("train.py", *arguments(tmp_path, "seed=0,1", "launcher=local", recipe=LONG), output=tmp_path / "out")
        logs = [tmp_path / "sweep" / job / "job.log" for job in names(tmp_path, 2)]
        wait_for(lambda logs=logs, sign=sign: all(log.exists() and sign in log.read_text() for log in logs))
        process.send(signum)
        assert process.wait() == expected, (tmp_path / "out").read_text()
        assert "stopping 2 jobs" in (tmp_path / "out").read_text()
        assert {job.state() for job in jobs_in(tmp_path / "sweep")} == {State.INTERRUPTED}
    code, _ = sweep(tmp_path, "seed=0,1", "launcher=local", recipe=LONG)
    assert code == 0
    assert [codes(job) for job in jobs_in(tmp_path / "sweep")] == [[143, 143, 0]] * 2
    assert "Continuing after outer step" in (jobs_in(tmp_path / "sweep")[0].folder / "job.log").read_text()


def names(folder, count):
    """The jobs of a sweep, once it has planned them."""
    wait_for(lambda: len(list((folder / "sweep").glob("*/job.json"))) == count)
    return [job.name for job in jobs_in(folder / "sweep")]


@forked
def test_two_commands_share_a_folder(tmp_path):
    """Each job runs once, whoever runs it, and both commands wait for all."""
    both = [
        fork("train.py", *arguments(tmp_path, "seed=0,1,2,3", "launcher=local"), output=tmp_path / f"out{i}") for i in range(2)
    ]
    assert [process.wait(600) for process in both] == [0, 0], [(tmp_path / f"out{i}").read_text() for i in range(2)]
    assert [codes(job) for job in jobs_in(tmp_path / "sweep")] == [[0]] * 4
    for i in range(2):
        assert "4 completed" in (tmp_path / f"out{i}").read_text()


@pytest.mark.proof
def test_killed_three_times_a_sweep_ends_complete_and_the_same(tmp_path):
    """Two jobs at a time; twice the whole tree of processes is killed, once the first process alone.

    Twelve jobs with ``FEWSHOT_SWEEP_SEEDS=4``, six without.
    """
    recipe = (*TINY, "callbacks.progress.refresh_rate=0", *LENGTH)
    seeds, rates = range(int(os.environ.get("FEWSHOT_SWEEP_SEEDS", "2"))), (0.1, 0.2, 0.4)
    count = len(seeds) * len(rates)
    grid = (
        f"seed={','.join(map(str, seeds))}", f"model.inner.lr={','.join(map(str, rates))}", "launcher=local",
        "hydra.launcher.jobs=2",
    )  # fmt: skip
    moments = uniforms(stream_key("kills", os.environ.get("FEWSHOT_KILLS_SEED", "0")), [0], 3)[0]
    finished = []
    for moment, whole in zip(moments, (True, False, True), strict=True):
        process = fork("train.py", *arguments(tmp_path, *grid, recipe=recipe), output=tmp_path / "out")
        # at a random moment of the seconds after the first checkpoint
        fresh = {path: path.stat().st_mtime_ns for path in tmp_path.glob("sweep/*/checkpoints/last.ckpt")}
        wait_for(
            lambda fresh=fresh: any(
                fresh.get(path) != path.stat().st_mtime_ns for path in tmp_path.glob("sweep/*/checkpoints/last.ckpt")
            )
        )
        time.sleep(3 * moment)
        below = kill(process, whole)
        wait_for(lambda below=below: not any(map(is_alive, below)))  # jobs whose sweep has died stop by themselves
        finished.append(len(list(tmp_path.glob("sweep/*/results.json"))))
    assert finished[-1] < count
    code, said = sweep(tmp_path, *grid, recipe=recipe)
    assert code == 0, said

    jobs = jobs_in(tmp_path / "sweep")
    assert len(jobs) == count
    attempts = [codes(job) for job in jobs]
    assert all(each.count(0) <= 1 for each in attempts)  # none where it was killed after its last word
    assert sum(len(each) - 1 for each in attempts) >= 3, attempts  # each kill met a job at work
    assert any(143 in each for each in attempts), attempts  # by the death of the first process
    left = {values(job, "seed", "model.inner.lr"): job.folder for job in jobs}
    for seed in seeds:
        for rate in rates:
            alone = tmp_path / f"alone-{seed}-{rate}"
            done = main("train.py", *recipe, f"seed={seed}", f"model.inner.lr={rate}",
                        f"paths.cache_dir={tmp_path / 'cache'}", f"hydra.run.dir={alone}")  # fmt: skip
            assert done.code == 0, done.err
            ours, expected = what_a_run_left(left[(str(seed), str(rate))]), what_a_run_left(alone)
            for key in expected:
                assert ours[key] == expected[key], (seed, rate, key)


@forked
def test_a_job_that_is_killed_has_failed(tmp_path):
    """As for lack of memory: the sweep itself lives, and says so."""
    recipe = (*LONG, "trainer.max_steps=60")
    process = fork("train.py", *arguments(tmp_path, "seed=0", recipe=recipe), output=tmp_path / "out")
    (name,) = names(tmp_path, 1)
    wait_for((tmp_path / "sweep" / name / "checkpoints/last.ckpt").exists)
    os.kill(processes_below(process.pid)[0], signal.SIGKILL)
    assert process.wait() == 11
    assert "killed by signal 9, perhaps for lack of memory" in (tmp_path / "out").read_text()
    assert codes(Job(tmp_path / "sweep" / name)) == [-9]
    assert sweep(tmp_path, "seed=0", recipe=recipe)[0] == 0


@forked
def test_a_sweep_finds_its_folder_by_its_command(tmp_path):
    for code, more in ((11, ["data.ways=choice(30)"]), (12, ["data.ways=30,31", "launcher=local"])):
        done = main("train.py", "-m", *RECIPE, f"paths.root_dir={tmp_path}", *more)
        assert done.code == code, done.err
    (folder,) = (tmp_path / "logs/train/sweeps").iterdir()
    assert folder.name.startswith("quick-ways-")
    assert [codes(job) for job in jobs_in(folder)] == [[2, 2], [2]]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.inner.ls=1,2", "model.inner.ls is no key of this config; did you mean 'model.inner.lr'?"),
        ("model=protonet,mmal", "model=mmal is unknown; did you mean 'maml'?"),
    ],
)
def test_a_mistake_in_the_command_starts_nothing(tmp_path, override, message):
    done = main("train.py", *arguments(tmp_path, override))
    assert done.code == 2
    assert done.err == f"error: {message}\n"
    assert not list(tmp_path.glob("sweep/*/job.json"))


@forked
def test_each_job_is_composed_once(tmp_path, monkeypatch):
    composed, compose = [], ConfigLoaderImpl.load_sweep_config
    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", lambda *given: composed.append(given[2]) or compose(*given))
    assert main("train.py", *arguments(tmp_path, "data.ways=30,31")).code == 12
    assert [values[-1] for values in composed] == ["data.ways=30", "data.ways=31"]
