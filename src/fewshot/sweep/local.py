"""Runs jobs on this machine, several at a time, each in a process of its own; the next one starts when one ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from filelock import Timeout
from omegaconf import DictConfig, OmegaConf

from fewshot.runtime.cli import CONFIGS
from fewshot.runtime.signals import Stopped, StopRequest
from fewshot.sweep.job import FROZEN, LOG, Job
from fewshot.sweep.one_job import BUSY
from fewshot.sweep.places import Place, Places, cores, gpus
from fewshot.sweep.report import Progress, common_overrides
from fewshot.sweep.work import ListedWork, Work

REST = 0.1
"""Seconds between two looks at the processes."""


@dataclass(frozen=True)
class Running:
    """A job under way, its process, and the place that it has."""

    job: Job
    process: subprocess.Popen[bytes]
    place: Place


class LocalPool:
    """Keeps the places of this machine filled with jobs.

    Args:
        places: of this machine.
        progress: is told of what happens.
    """

    def __init__(self, places: Places, progress: Progress) -> None:
        self.places = places
        self.progress = progress
        self._running: list[Running] = []
        self._next: tuple[Job, DictConfig] | None = None

    def run(self, work: Work) -> None:
        """Runs jobs until none is left.

        Raises:
            Stopped: a signal asked for it. The jobs have been asked too, and have ended; a second signal kills them.
        """
        request = StopRequest()
        with request.listening():
            request.deferred = True
            try:
                while work.open() or self._running or self._next:
                    if request.signum is not None:
                        self._stop(work)
                        raise Stopped(request.signum)
                    self._fill(work)
                    time.sleep(REST)
                    self._reap(work)
            finally:
                for running in self._running:  # after a second signal, or a mistake of ours
                    os.killpg(running.process.pid, signal.SIGKILL)
                    running.process.wait()

    def _fill(self, work: Work) -> None:
        """Starts jobs while there is a place for the next one."""
        while not self.places.full():
            if self._next is None:
                job = work.next()
                if job is None:
                    return
                self._next = job, cast(DictConfig, OmegaConf.load(job.folder / FROZEN))
            job, cfg = self._next
            place = self.places.take(cfg)
            if place is None:  # not enough GPUs are free for this one
                return
            self._next = None
            self._running.append(Running(job, _start(job, place), place))
            self.progress.started(job)

    def _reap(self, work: Work) -> None:
        """Takes note of the processes that have ended."""
        for running in [running for running in self._running if running.process.poll() is not None]:
            self._running.remove(running)
            self.places.give_back(running.place)
            code = running.process.returncode
            if code != BUSY:
                _note_death(running.job, running.process.pid, code)
                self.progress.ended(running.job)
            work.ended(running.job)

    def _stop(self, work: Work) -> None:
        self.progress.stopping(len(self._running))
        for running in self._running:
            running.process.send_signal(signal.SIGTERM)
        while self._running:
            time.sleep(REST)
            self._reap(work)


def _start(job: Job, place: Place) -> subprocess.Popen[bytes]:
    """Starts the process of a job; it ends when this one dies, for nobody holds the other end of its stdin then."""
    path = os.pathsep.join(filter(None, [str(CONFIGS.parent), os.environ.get("PYTHONPATH")]))
    with (job.folder / LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "fewshot.sweep.one_job", str(job.folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": path, **place.environment},
            start_new_session=True,  # Ctrl-C reaches this process alone, which asks the jobs to stop
        )


def _note_death(job: Job, pid: int, code: int) -> None:
    """Writes down how an attempt ended whose process could not do so itself, unless somebody has begun another since."""
    try:
        with job.held():
            attempts = job.record()["attempts"]
            begun = bool(attempts) and attempts[-1].get("pid") == pid
            if begun and "exit_code" in attempts[-1]:
                return
            if not begun:
                job.begin(pid)
            job.end(code)
    except Timeout:
        return


def run_here(folder: Path, jobs: Sequence[Job], at_once: int | None) -> None:
    """Runs a list of jobs on this machine, saying what happens.

    Raises:
        Stopped: a signal asked for it.
    """
    pool = pool_here(at_once, common_overrides(jobs))
    pool.progress.begins(folder, jobs, pool.places.jobs)
    pool.run(ListedWork(jobs))


def pool_here(at_once: int | None, common: set[str]) -> LocalPool:
    """The places of this machine.

    Args:
        at_once: jobs; None for one a GPU, or one a core without GPUs.
        common: overrides that need not be said of each job.
    """
    return LocalPool(Places(at_once, gpus(), cores()), Progress(common))
