"""What is said while jobs run, and at the end of a sweep: one line a job, a table, an exit code."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fewshot.sweep.job import Job, State

EXIT_BASE, EXIT_MOST = 10, 110
"""The exit code of a sweep is 10 plus the number of jobs that failed, 110 where a hundred or more did."""
STYLES = {State.COMPLETED: "green", State.FAILED: "bold red", State.INTERRUPTED: "yellow", State.RUNNING: "cyan"}


def console() -> Console:
    """Standard output; outside a terminal nothing is folded."""
    out = Console(highlight=False)
    out.width = out.width if out.is_terminal else 160
    return out


def common_overrides(jobs: Sequence[Job]) -> set[str]:
    """The overrides that all jobs share, which tell none from another."""
    each = [set(job.record()["overrides"]) for job in jobs]
    return set.intersection(*each) if len(each) > 1 else set()


def label(job: Job, common: set[str]) -> str:
    """What tells a job from the others of its sweep."""
    return " ".join(override for override in job.record()["overrides"] if override not in common) or job.name


def accuracy(job: Job, split: str) -> str:
    """In percent with its interval over tasks; nothing where there is none."""
    metrics = (job.results() or {"metrics": {}})["metrics"]
    if f"{split}/acc" not in metrics:
        return ""
    return f"{100 * metrics[f'{split}/acc']:.2f} ± {100 * metrics.get(f'{split}/acc_ci95', math.nan):.2f} %"


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
        common: overrides that need not be said.
    """

    def __init__(self, common: set[str]) -> None:
        self._common = common
        self._console = console()

    def begins(self, folder: Path, jobs: Sequence[Job]) -> None:
        self._console.print(
            f"{len(jobs)} jobs in {folder}: {summary(jobs)}; each says more in its job.log",
            markup=False,
            soft_wrap=True,
        )

    def started(self, job: Job) -> None:
        self._console.print(f"started      {label(job, self._common)}", markup=False, soft_wrap=True)

    def ended(self, job: Job) -> None:
        state = job.state()
        outcome = f"val {accuracy(job, 'val')}" if state == State.COMPLETED else reason(job) if state == State.FAILED else ""
        self._console.print(f"{state.value:12} {label(job, self._common)}  {outcome}".rstrip(), markup=False, soft_wrap=True)

    def stopping(self, running: int) -> None:
        self._console.print(f"stopping {running} jobs, each after the step in hand; once more to kill them")


def status_table(jobs: Sequence[Job]) -> Table:
    """A line a job."""
    common = common_overrides(jobs)
    table = Table("job", "overrides", "state", "attempts", "validation", "test")
    for job in jobs:
        state = job.state()
        style = STYLES.get(state, "")
        table.add_row(
            job.name,
            label(job, common),
            f"[{style}]{state.value}[/]" if style else state.value,
            str(len(job.record()["attempts"])),
            accuracy(job, "val"),
            accuracy(job, "test"),
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
    out.print(f"\n{len(jobs)} jobs in {folder}: {summary(jobs)}", markup=False, soft_wrap=True)


def exit_code(jobs: Sequence[Job]) -> int:
    """0 where all jobs are complete, 143 where some were stopped, else 10 plus the number that failed."""
    states = [job.state() for job in jobs]
    failed = states.count(State.FAILED)
    if failed:
        return min(EXIT_BASE + failed, EXIT_MOST)
    return 0 if all(state in (State.COMPLETED, State.PRUNED) for state in states) else 143


def conclude(folder: Path, jobs: Sequence[Job]) -> None:
    """Prints how a sweep ended, and ends this process where not all is well."""
    print_status(folder, jobs)
    code = exit_code(jobs)
    if code == 143:
        print("stopped: not all jobs are complete; the same command goes on", file=sys.stderr)
    elif code:
        failed = sum(job.state() == State.FAILED for job in jobs)
        print(f"error: {failed} of {len(jobs)} jobs failed; the same command tries them once more", file=sys.stderr)
    if code:
        sys.exit(code)
