"""How a sweep ends: its jobs, its results over folds and seeds, and an exit code."""

import sys
from collections.abc import Sequence
from pathlib import Path

from fewshot.sweep.groups import cross_validations, groups_of
from fewshot.sweep.job import Job, State
from fewshot.sweep.report import WIDTH, console, counted, exit_code, print_status
from fewshot.sweep.table import print_table


def conclude(folder: Path, jobs: Sequence[Job]) -> None:
    """Prints how a sweep ended, with means over folds or seeds, and ends this process where not all is well."""
    print_status(folder, jobs)
    _print_means(jobs)
    code = exit_code(jobs)
    if code == 143:
        print("stopped: not all jobs are complete; the same command goes on", file=sys.stderr)
    elif code:
        failed = sum(job.state() == State.FAILED for job in jobs)
        print(f"error: {failed} of {counted(len(jobs), 'job')} failed; the same command tries them once more", file=sys.stderr)
    if code:
        sys.exit(code)


def _print_means(jobs: Sequence[Job]) -> None:
    complete = [job for job in jobs if job.results() is not None]
    groups = groups_of(jobs) if complete else []
    validations = cross_validations(groups)
    if len(groups) < len(complete) or validations:
        baseline = validations[0] if len(validations) > 1 else []
        print()
        print_table(console(WIDTH), groups, baseline)
