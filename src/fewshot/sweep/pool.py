"""Keeps a machine busy with jobs: the next one starts when one ends."""

import time
from typing import Protocol

from fewshot.runtime.signals import Stopped, StopRequest
from fewshot.sweep.job import Job, State
from fewshot.sweep.queue import Queue
from fewshot.sweep.report import Progress

REST = 0.1
"""Seconds between two looks at the jobs."""


class Running(Protocol):
    """A job under way."""

    @property
    def job(self) -> Job:
        """Which one."""

    def has_ended(self) -> bool:
        """Whether it is over; how, its record says."""

    def stop(self) -> None:
        """Asks it to end with a checkpoint."""

    def kill(self) -> None:
        """Ends it at once."""


class Machine(Protocol):
    """Where jobs run."""

    def is_full(self) -> bool:
        """Whether it takes no more for now."""

    def start(self, job: Job) -> Running | None:
        """Starts a job; None while what it needs is not free."""


class Pool:
    """Runs jobs on a machine until none is left.

    Args:
        machine: where.
        progress: is told of what happens.
    """

    def __init__(self, machine: Machine, progress: Progress) -> None:
        self._machine = machine
        self._progress = progress
        self._running: list[Running] = []
        self._next: Job | None = None

    def run(self, queue: Queue) -> None:
        """Runs all that there is to do.

        Raises:
            Stopped: a signal asked for it. The jobs have been asked too, and have ended; a second signal kills them.
        """
        request = StopRequest()
        with request.listening():
            request.deferred = True
            try:
                while queue.open() or self._running or self._next:
                    if request.signum is not None:
                        self._stop(queue)
                        raise Stopped(request.signum)
                    self._fill(queue)
                    time.sleep(REST)
                    self._reap(queue)
                    self._progress.running([running.job for running in self._running])
            finally:
                for running in self._running:  # after a second signal, or a mistake of ours
                    running.kill()

    def _fill(self, queue: Queue) -> None:
        """Starts jobs while there is a place for the next one."""
        while not self._machine.is_full():
            self._next = self._next or queue.next()
            if self._next is None:
                return
            running = self._machine.start(self._next)
            if running is None:
                return
            self._running.append(running)
            self._progress.started(self._next)
            self._next = None

    def _reap(self, queue: Queue) -> None:
        """Takes note of the jobs that have ended."""
        for running in [running for running in self._running if running.has_ended()]:
            self._running.remove(running)
            if running.job.state() != State.RUNNING:  # else somebody else was faster
                self._progress.ended(running.job)
            queue.ended(running.job)

    def _stop(self, queue: Queue) -> None:
        self._progress.stopping(len(self._running))
        for running in self._running:
            running.stop()
        while self._running:
            time.sleep(REST)
            self._reap(queue)
