"""A sweep on a real Slurm of this machine: a job cancelled and one requeued in the middle end as if nothing had happened."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fewshot.sweep.job import State, jobs_in
from tests.entry import TINY, main
from tests.forked import fork, wait_for
from tests.runtime.sameness import what_a_run_left
from tests.sweep.test_local import codes

HERE = Path(__file__).parent
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(map(shutil.which, ("slurmctld", "slurmd", "munged", "srun", "squeue"))),
        reason="needs root, and slurmctld, slurmd, slurm-client and munge installed",
    ),
]
LONG = (
    *TINY, "callbacks.progress.refresh_rate=0", "threads=1", "trainer.max_steps=800", "trainer.val_check_interval=400",
    "callbacks.last.every_n_steps=20",
)  # fmt: skip


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Slurm's daemons, and SLURM_CONF, which its commands read."""
    folder = tmp_path / "slurm"
    try:
        subprocess.run([HERE / "start", folder], check=True, capture_output=True, text=True)
        monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        yield
        slurm("scancel", "--user=root")
        wait_for(lambda: not slurm("squeue", "--noheader"))
    finally:
        subprocess.run([HERE / "stop", folder], check=True)


def arguments(folder):
    parameters = "hydra.launcher.parameters={timeout_min: 60, cpus_per_task: 1, gpus_per_node: 0}"
    return ["-m", *LONG, "seed=0,1", "launcher=slurm", parameters, f"hydra.sweep.dir={folder / 'sweep'}",
            f"paths.cache_dir={folder / 'cache'}"]  # fmt: skip


def slurm(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()


def test_cancelled_and_requeued_in_the_middle(cluster, tmp_path):
    process = fork("train.py", *arguments(tmp_path), output=tmp_path / "out")
    wait_for(lambda: len(list(tmp_path.glob("sweep/*/checkpoints/last.ckpt"))) == 2, timeout=300)
    cancelled, requeued = slurm("squeue", "--noheader", "--states=RUNNING", "--format=%A")
    slurm("scancel", cancelled)
    slurm("scontrol", "requeue", requeued)
    wait_for(lambda: requeued in slurm("squeue", "--noheader", "--states=PENDING", "--format=%A"), timeout=120)
    slurm("scontrol", "update", f"jobid={requeued}", "starttime=now")
    assert process.wait(600) == 143, (tmp_path / "out").read_text()
    assert "stopped: not all jobs are complete; the same command goes on" in (tmp_path / "out").read_text()
    jobs = jobs_in(tmp_path / "sweep")
    assert {job.state() for job in jobs} == {State.COMPLETED, State.INTERRUPTED}

    process = fork("train.py", *arguments(tmp_path), output=tmp_path / "out")
    assert process.wait(600) == 0, (tmp_path / "out").read_text()
    assert [codes(job) for job in jobs] == [[143, 0]] * 2
    for job in jobs:
        seed = next(override for override in job.record()["overrides"] if override.startswith("seed="))
        alone = tmp_path / seed.replace("=", "-")
        done = main("train.py", *LONG, seed, f"paths.cache_dir={tmp_path / 'cache'}", f"hydra.run.dir={alone}")
        assert done.code == 0, done.err
        left, expected = what_a_run_left(job.folder), what_a_run_left(alone)
        for key in expected:
            assert left[key] == expected[key], (seed, key)
