"""What is said while jobs run, and at the end of a sweep: one line a job, a table, an exit code."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fewshot.evaluation.results import deciding_score
from fewshot.evaluation.scores import with_interval
from fewshot.sweep.job import Job, State
from fewshot.sweep.labels import common_overrides, short_label
from fewshot.sweep.training_progress import training_of

WIDTH = 80
"""Columns of tables that are read, not searched, where there is no terminal."""
EXIT_BASE, EXIT_MOST = 10, 110
"""The exit code of a sweep is 10 plus the number of jobs that failed, 110 where a hundred or more did."""
LOOK = 5.0
"""Seconds between two looks at how far jobs have come."""
UNDER_WAY = (State.RUNNING, State.INTERRUPTED)
STYLES = {State.COMPLETED: "green", State.FAILED: "bold red", State.INTERRUPTED: "yellow", State.RUNNING: "cyan"}


def console(width: int = 1000) -> Console:
    """Standard output, where it is no terminal of so many columns."""
    out = Console(highlight=False)
    out.width = out.width if out.is_terminal else width
    return out


def counted(number: int, noun: str) -> str:
    """As in ``1 job`` and ``2 jobs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def plain_table(*header: str) -> Table:
    """A table whose cells are folded where they are too wide, never cut; what they hold is no markup."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title in header:
        table.add_column(Text(title), overflow="fold")
    return table


class Labels:
    """What each job of a sweep is called in lines and tables.

    Args:
        jobs: the overrides of each, as far as they are known.
        common: overrides that need not be said.
    """

    def __init__(self, jobs: Sequence[Sequence[str]], common: set[str] | None = None) -> None:
        self._common = common_overrides(jobs) if common is None else common
        self._among = [override for job in jobs for override in job if override not in self._common]

    def of(self, job: Job) -> str:
        """The overrides that tell a job from the others."""
        own = [override for override in job.record()["overrides"] if override not in self._common]
        return short_label(own, self._among) or job.name


def labels_of(jobs: Sequence[Job]) -> Labels:
    """The labels of jobs that are all known."""
    return Labels([job.record()["overrides"] for job in jobs])


def figure(job: Job, split: str) -> str:
    """The score that decides with its interval over tasks; nothing where there is none."""
    results = job.results()
    if results is None or f"{split}/{deciding_score(results)}" not in results["metrics"]:
        return ""
    name, metrics = deciding_score(results), results["metrics"]
    return with_interval(name, metrics[f"{split}/{name}"], metrics.get(f"{split}/{name}_ci95", math.nan))


def _figures(job: Job) -> str:
    """What a complete job came to: on validation tasks, by which runs are chosen; of an evaluation, on those that it has."""
    found = ((split, figure(job, split)) for split in ("val", "test"))
    return next((f"{split} {text}" for split, text in found if text), "")


def reason(job: Job) -> str:
    """Why a job failed, in a line."""
    last = job.record()["attempts"][-1]
    code, tail = last["exit_code"], last.get("log_tail") or []
    if code < 0:
        return f"killed by signal {-code}" + (", perhaps for lack of memory" if code == -9 else "")
    return f"exit code {code}: {tail[-1]}" if tail else f"exit code {code}"


class Progress:
    """Says which jobs start and how they end.

    Args:
        labels: of the jobs.
    """

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._console = console()
        self._looked = time.monotonic()
        self._tenths: dict[Job, int] = {}

    def begins(self, folder: Path, jobs: Sequence[Job]) -> None:
        self._console.print(
            f"{counted(len(jobs), 'job')} in {folder}: {summary(jobs)}; each says more in its job.log",
            markup=False,
            soft_wrap=True,
        )

    def started(self, job: Job) -> None:
        self._console.print(f"started      {self._labels.of(job)}", markup=False, soft_wrap=True)

    def ended(self, job: Job) -> None:
        state = job.state()
        outcome = _figures(job) if state == State.COMPLETED else reason(job) if state == State.FAILED else ""
        self._console.print(f"{state.value:12} {self._labels.of(job)}  {outcome}".rstrip(), markup=False, soft_wrap=True)

    def running(self, jobs: Sequence[Job]) -> None:
        """A line for each job that has done another tenth of its outer steps, looked at every few seconds."""
        if time.monotonic() - self._looked < LOOK:
            return
        self._looked = time.monotonic()
        for job in jobs:
            training = training_of(job)
            tenth = 10 * training.step // training.steps if training else 0
            if tenth > self._tenths.get(job, 0):
                self._tenths[job] = tenth
                self._console.print(f"running      {self._labels.of(job)}  {training}", markup=False, soft_wrap=True)

    def stopping(self, running: int) -> None:
        self._console.print(f"stopping {counted(running, 'job')}, each after the step in hand; once more to kill them")


def status_table(jobs: Sequence[Job]) -> Table:
    """A line a job."""
    labels = labels_of(jobs)
    table = plain_table("job", "overrides", "state", "validation", "test")
    for job in jobs:
        state, attempts = job.state(), len(job.record()["attempts"])
        table.add_row(
            Text(job.name),
            Text(labels.of(job)),
            Text(state.value + (f", attempt {attempts}" if attempts > 1 else ""), style=STYLES.get(state, "")),
            figure(job, "val") or (str(training_of(job) or "") if state in UNDER_WAY else ""),
            figure(job, "test"),
        )
    return table


def summary(jobs: Sequence[Job]) -> str:
    """How many are in which state."""
    states = [job.state() for job in jobs]
    return ", ".join(f"{states.count(state)} {state.value}" for state in State if state in states)


def print_status(folder: Path, jobs: Sequence[Job]) -> None:
    """Prints the table, and of each job that failed the last lines of its log."""
    out = console()
    out.print(status_table(jobs))
    for job in jobs:
        if job.state() == State.FAILED:
            out.print(f"\n{job.name} failed, {reason(job)}; the end of {job.folder / 'job.log'}:", markup=False, soft_wrap=True)
            for line in job.record()["attempts"][-1].get("log_tail", []):
                out.print(f"    {line}", markup=False, soft_wrap=True)
    out.print(f"\n{counted(len(jobs), 'job')} in {folder}: {summary(jobs)}", markup=False, soft_wrap=True)


def exit_code(jobs: Sequence[Job]) -> int:
    """0 where all jobs are complete, 143 where some were stopped, else 10 plus the number that failed."""
    states = [job.state() for job in jobs]
    failed = states.count(State.FAILED)
    if failed:
        return min(EXIT_BASE + failed, EXIT_MOST)
    return 0 if all(state in (State.COMPLETED, State.PRUNED) for state in states) else 143
