"""The queue of a sweep: which jobs are left to do, whoever else works on the same folder."""

from collections.abc import Sequence
from typing import Protocol

from fewshot.sweep.job import Job, State


class Queue(Protocol):
    """Where a launcher gets its jobs from."""

    def open(self) -> bool:
        """Whether there is anything left to start, or anything running that others have started."""

    def next(self) -> Job | None:
        """A job to start now; None while there is none."""

    def ended(self, job: Job) -> None:
        """Takes note that a job which was handed out has ended, one way or another."""


class JobQueue:
    """A list of jobs, each run until it is complete or has failed once more.

    What others run is left to them, and taken over where they are killed. A job that failed before this sweep began is tried
    once more; one that fails while it goes on, here or elsewhere, is not.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._left = list(jobs)
        self._failures = {job: job.failures() for job in jobs}

    def open(self) -> bool:
        return bool(self._left)

    def next(self) -> Job | None:
        for job in list(self._left):
            state = job.state()
            if state in (State.COMPLETED, State.PRUNED) or job.failures() > self._failures[job]:
                self._left.remove(job)
            elif state != State.RUNNING:
                self._left.remove(job)
                return job
        return None

    def ended(self, job: Job) -> None:
        if job.state() == State.RUNNING:  # somebody else was faster
            self._left.append(job)
