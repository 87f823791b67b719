"""This machine as a place for jobs: each in a process of its own, with GPUs or a share of the cores to itself."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache

from filelock import Timeout
from omegaconf import DictConfig

from fewshot.runtime.config_groups import CONFIGS
from fewshot.sweep.job import LOG, Job
from fewshot.sweep.one_job import BUSY
from fewshot.sweep.resources import Resources, Share


@dataclass(frozen=True)
class LocalMachine:
    """Starts the processes of jobs."""

    resources: Resources

    def is_full(self) -> bool:
        return self.resources.full()

    def start(self, job: Job) -> "LocalJob | None":
        share = self.resources.acquire(_config(job))
        return None if share is None else LocalJob(job, start_process(job, share.environment), self.resources, share)


@dataclass(frozen=True)
class LocalJob:
    """A job, its process, and the place that it has."""

    job: Job
    process: subprocess.Popen[bytes]
    resources: Resources
    share: Share

    def has_ended(self) -> bool:
        code = self.process.poll()
        if code is None:
            return False
        _let_go(self.process)
        self.resources.release(self.share)
        if code != BUSY:
            note_death(self.job, self.process.pid, code)
        return True

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        _let_go(self.process)


def _let_go(process: subprocess.Popen[bytes]) -> None:
    """Closes this end of the stdin of a process that has ended."""
    if process.stdin is not None:
        process.stdin.close()


@lru_cache(maxsize=1)
def _config(job: Job) -> DictConfig:
    """Kept while the job waits for GPUs."""
    return job.config()


def start_process(job: Job, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Starts the process of a job; it ends when this one dies, for nobody holds the other end of its stdin then."""
    path = os.pathsep.join(filter(None, [str(CONFIGS.parent), os.environ.get("PYTHONPATH")]))
    with (job.folder / LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "fewshot.sweep.one_job", str(job.folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": path, **environment},
            start_new_session=True,  # Ctrl-C reaches this process alone, which asks the jobs to stop
        )


def note_death(job: Job, pid: int, code: int) -> None:
    """Writes down how an attempt ended whose process could not do so itself, unless somebody has begun another since."""
    try:
        with job.locked():
            attempts = job.record()["attempts"]
            begun = bool(attempts) and attempts[-1].get("pid") == pid
            found_complete = code == 0 and not begun  # another process had run it by the time that this one had the lock
            if found_complete or (begun and "exit_code" in attempts[-1]):
                return
            if not begun:
                job.begin(pid)
            job.end(code)
    except Timeout:
        return
