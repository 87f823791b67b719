"""Launchers: a list of jobs, or a study, run by a pool on some machine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fewshot.sweep.job import Job
from fewshot.sweep.local import LocalMachine
from fewshot.sweep.pool import Machine, Pool
from fewshot.sweep.queue import JobQueue, Queue
from fewshot.sweep.report import Labels, Progress, labels_of
from fewshot.sweep.resources import Resources, cores, gpus


def this_machine(jobs: int | None) -> LocalMachine:
    """The machine that this process runs on; `jobs` at once, None for one per GPU, or one per core where there is no GPU."""
    return LocalMachine(Resources(jobs, gpus(), cores()))


def slurm(folder: Path, jobs: int, parameters: Mapping[str, Any]) -> Machine:
    """A Slurm cluster; `jobs` in its queue at once.

    Raises:
        UserError: submitit or Slurm is missing, or a parameter is unknown.
    """
    from fewshot.sweep.slurm import Cluster

    return Cluster(folder / "slurm", jobs, parameters)


def run_jobs(jobs: Sequence[Job], folder: Path, machine: Machine) -> None:
    """Runs a list of jobs, saying what happens.

    Raises:
        Stopped: a signal asked for it.
    """
    progress = Progress(labels_of(jobs))
    progress.begins(folder, jobs)
    Pool(machine, progress).run(JobQueue(jobs))


def run_queue(queue: Queue, machine: Machine, labels: Labels) -> None:
    """Runs jobs that are not all known yet.

    Raises:
        Stopped: a signal asked for it.
    """
    Pool(machine, Progress(labels)).run(queue)
