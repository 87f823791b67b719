"""A Slurm cluster as a place for jobs, through submitit."""

import getpass
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot.errors import UserError, check_int
from fewshot.sweep.job import Job
from fewshot.sweep.local import note_death, start_process

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

QUEUE_REST = 3.0
"""Seconds between two questions to the cluster."""

REQUEUES = 1000
"""How often a job may be queued anew because its time was up: it goes on each time."""


class OnNode:
    """What submitit runs on a node: the process of a job. It is queued anew before its time is up, or where the node is wanted.

    Args:
        folder: of the job.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        threads = os.environ.get("OMP_NUM_THREADS", os.environ.get("SLURM_CPUS_PER_TASK", "1"))
        self._process = start_process(Job(Path(self._folder)), {"OMP_NUM_THREADS": threads})
        code = self._process.wait()
        if code < 0:
            note_death(Job(Path(self._folder)), self._process.pid, code)
        return code

    def checkpoint(self) -> "DelayedSubmission":
        """Stops the process with a checkpoint; submitit queues what is returned."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        return DelayedSubmission(OnNode(self._folder))


class Cluster:
    """Submits jobs, and follows them in the queue.

    (submitit asks `sacct`, which needs an accounting database; `squeue` is everywhere.)

    Args:
        folder: for submitit's files.
        jobs: in the queue at once.
        parameters: of `submitit.AutoExecutor`.

    Raises:
        UserError: submitit or Slurm is missing, or a parameter is unknown.
    """

    def __init__(self, folder: Path, jobs: int, parameters: Mapping[str, Any]) -> None:
        check_int("hydra.launcher.jobs", jobs, least=1)
        try:
            import submitit
        except ModuleNotFoundError as error:
            raise UserError("launcher=slurm needs the extra 'slurm'; install it with: uv sync --extra slurm") from error
        try:
            self._executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=REQUEUES)
            self._executor.update_parameters(name="fewshot", slurm_additional_parameters={"requeue": True}, **parameters)
        except (RuntimeError, NameError, TypeError, ValueError) as error:
            raise UserError(f"launcher=slurm: {error}; see hydra.launcher.parameters and submitit.AutoExecutor") from error
        self._most = jobs
        self._queue = SlurmQueue()

    def is_full(self) -> bool:
        return len(self._queue.open) >= self._most

    def start(self, job: Job) -> "SlurmJob":
        number = str(self._executor.submit(OnNode(str(job.folder.absolute()))).job_id)
        self._queue.open.add(number)
        return SlurmJob(job, number, self._queue)


@dataclass
class SlurmQueue:
    """The jobs that are pending or running, asked for every few seconds."""

    open: set[str] = field(default_factory=set)
    _asked: float = 0.0

    def has(self, number: str) -> bool:
        """Whether a job is in it; as long as the cluster does not answer, it is."""
        if time.monotonic() - self._asked > QUEUE_REST:
            self._asked = time.monotonic()
            asked = subprocess.run(
                ["squeue", "--noheader", "--format=%A", f"--user={getpass.getuser()}"],
                capture_output=True,
                text=True,
                check=False,
            )
            if asked.returncode == 0:
                self.open &= set(asked.stdout.split())
        return number in self.open


@dataclass(frozen=True)
class SlurmJob:
    """A job and its number on the cluster."""

    job: Job
    number: str
    queue: SlurmQueue

    def has_ended(self) -> bool:
        return not self.queue.has(self.number)

    def stop(self) -> None:
        """Slurm sends SIGTERM, and SIGKILL when its KillWait is over."""
        subprocess.run(["scancel", self.number], check=False)

    def kill(self) -> None:
        subprocess.run(["scancel", "--signal=KILL", self.number], check=False)
        subprocess.run(["scancel", self.number], check=False)
