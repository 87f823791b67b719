"""Runs of several processes, started as a user starts them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fewshot.errors import UserError
from fewshot.runtime.distributed import require_shares
from fewshot.sweep import local
from fewshot.sweep.job import jobs_in
from tests.entry import QUICK, ROOT, main
from tests.forked import ForkedJob, fork, wait_for
from tests.ranks import free_port
from tests.runtime.test_plots import LEARNED, SEEN, pictures, read

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]
UNEVEN = ("data.meta_batch_size=5", "model.optimizer.lr=0.0001")


def arguments(folder, *more):
    return [
        *QUICK,
        *LEARNED,
        *UNEVEN,
        "callbacks.progress.refresh_rate=0",
        f"hydra.run.dir={folder / 'run'}",
        f"paths.cache_dir={folder / 'cache'}",
        *more,
    ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    done = main("train.py", *arguments(folder))
    assert done.code == 0, done.err
    return folder / "run"


def rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def require_same_run(folder, alone):
    """The same tasks, each once, and figures that differ by no more than the order of a sum."""
    for name in ("metrics.csv", "test_tasks.csv"):
        here, there = rows(folder / name), rows(alone / name)
        assert [row.keys() for row in here] == [row.keys() for row in there]
        for ours, theirs in zip(here, there, strict=True):
            assert {key: bool(value) for key, value in ours.items()} == {key: bool(value) for key, value in theirs.items()}
            for key, value in ours.items():
                assert float(value or 0) == pytest.approx(float(theirs[key] or 0), rel=1e-3, abs=1e-5), (name, key)
    assert [row["task"] for row in rows(folder / "test_tasks.csv")] == [str(i) for i in range(6)]
    ours, theirs = (json.loads((path / "results.json").read_text()) for path in (folder, alone))
    assert ours["protocol"] == theirs["protocol"]
    assert ours["metrics"]["test/acc"] == pytest.approx(theirs["metrics"]["test/acc"], abs=0.05)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The job of a sweep: a run of two processes that shows everything."""
    folder = tmp_path_factory.mktemp("together")
    sweep = (*SEEN, "trainer=ddp_cpu", "launcher=serial", f"hydra.sweep.dir={folder / 'sweep'}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "start_process", ForkedJob)
        process = fork("train.py", "-m", *arguments(folder, *sweep), output=folder / "out")
    assert process.wait() == 0, (folder / "out").read_text()
    (job,) = jobs_in(folder / "sweep")
    return job


def test_two_processes_leave_what_one_leaves(alone, together):
    require_same_run(together.folder, alone)
    assert "Warning" not in (together.folder / "job.log").read_text()


def test_a_job_of_several_processes_starts_them_once(together):
    assert [attempt["exit_code"] for attempt in together.record()["attempts"]] == [0]
    assert (together.folder / "job.log").read_text().count("Results: ") == 1


def test_several_processes_show_everything_once(together):
    drawn = pictures(read(together.folder))
    assert [step for step, _ in drawn["val/tasks"]] == [2, 5]


def children_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_process_that_dies_ends_the_run_within_seconds(tmp_path):
    process = fork("train.py", *arguments(tmp_path, "trainer=ddp_cpu", "trainer.max_steps=100000"), output=tmp_path / "out")
    wait_for((tmp_path / "run/checkpoints/last.ckpt").exists)
    victim = max(children_of(process.pid))
    os.kill(victim, signal.SIGKILL)
    died = time.monotonic()
    assert process.wait() == 1
    assert time.monotonic() - died < 20
    assert "of the run was killed by signal 9; the others were ended too" in (tmp_path / "out").read_text()


def test_asked_to_stop_all_processes_stop_at_one_step_and_one_can_go_on(tmp_path):
    several = arguments(tmp_path, "trainer=ddp_cpu", "trainer.max_steps=100000")
    process = fork("train.py", *several, output=tmp_path / "out")
    wait_for((tmp_path / "run/checkpoints/last.ckpt").exists)
    process.send(signal.SIGTERM)
    assert process.wait() == 143, (tmp_path / "out").read_text()
    done = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"]
    later = arguments(tmp_path, f"trainer.max_steps={done + 2}", "resume=true")
    assert fork("train.py", *later, output=tmp_path / "out").wait() == 0, (tmp_path / "out").read_text()
    assert f"Continuing after outer step {done:,}" in (tmp_path / "out").read_text()


@pytest.mark.proof
def test_two_nodes(alone, tmp_path):
    """Torchrun on two "machines" that meet on loopback."""
    port, nodes = free_port(), []
    for node in range(2):
        command = [
            sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={node}", "--nproc-per-node=1",
            "--master-addr=127.0.0.1", f"--master-port={port}", "train.py", *arguments(tmp_path), "trainer=ddp_cpu",
            "trainer.devices=1", "+trainer.num_nodes=2",
        ]  # fmt: skip
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        with (tmp_path / f"node{node}").open("w") as output:
            nodes.append(subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT))
    assert [node.wait(timeout=240) for node in nodes] == [0, 0], [(tmp_path / f"node{node}").read_text() for node in range(2)]
    require_same_run(tmp_path / "run", alone)


@pytest.mark.parametrize("key", ["meta_batch_size", "val_tasks", "test_tasks"])
def test_a_process_without_a_task_is_refused(compose_config, tmp_path, key):
    cfg = compose_config(tmp_path, "trainer=ddp_cpu", "trainer.devices=4", f"data.{key}=3")
    with pytest.raises(UserError, match=rf"data\.{key}=3 leaves some of 4 processes without a task; choose 4 or more"):
        require_shares(cfg)


def test_several_devices_need_a_trainer_that_shares_tasks(compose_config, tmp_path):
    with pytest.raises(
        UserError, match=r"trainer\.devices=2 needs a trainer of several processes; choose trainer=ddp or ddp_cpu"
    ):
        require_shares(compose_config(tmp_path, "trainer.devices=2"))
