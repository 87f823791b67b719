"""``python -m fewshot.sweep status|table|best|retry DIR``: looks at a sweep, and finishes it without its command.

All but `retry` read ``results.json``, ``test_tasks.csv`` and the jobs' own records: they work wherever a sweep is copied to.
"""

import argparse
import shlex
import sys
from pathlib import Path

import numpy as np

from fewshot.errors import UserError
from fewshot.evaluation.scores import formatted, score
from fewshot.files import written_whole
from fewshot.runtime.cli import mistakes_explained
from fewshot.sweep.conclusion import conclude
from fewshot.sweep.export_best import write_experiment
from fewshot.sweep.groups import chosen_baseline, configs_of, groups_of, one_score
from fewshot.sweep.job import SingleRun, State, jobs_in
from fewshot.sweep.plot import plot
from fewshot.sweep.report import WIDTH, console, counted, print_status
from fewshot.sweep.table import csv_text, markdown, print_table


def status(options: argparse.Namespace) -> None:
    """What runs, what is complete, what failed and why."""
    print_status(options.folder, jobs_in(options.folder))


def table(options: argparse.Namespace) -> None:
    """Results over seeds."""
    groups = groups_of(jobs_in(options.folder))
    baseline = chosen_baseline(groups, options.baseline) if options.baseline is not None else []
    if options.markdown:
        print(markdown(groups, baseline), end="")
    else:
        print_table(console(WIDTH), groups, baseline)
    if len(commits := {commit for group in groups for commit in group.commits}) > 1:
        print(f"note: the runs come from {len(commits)} commits of the code; each results.json names its own", file=sys.stderr)
    if options.csv is not None:
        with written_whole(options.csv) as file:
            file.write(csv_text(groups, baseline).encode())
    if options.plot is not None:
        plot(groups, options.plot)


def best(options: argparse.Namespace) -> None:
    """The config that validates best, as an experiment file; the test plays no part in the choice."""
    groups = groups_of(jobs_in(options.folder))
    one_score(groups)
    chosen = configs_of(groups)[0]
    group, validated = chosen[0], float(np.mean([fold.validated for fold in chosen]))
    path = options.experiment or options.folder / "experiment/best.yaml"
    unit = " %" if score(group.score).percent else ""
    figure = f"validation {score(group.score).label} {formatted(group.score, validated)}{unit}"
    figure += f" over {f'{len(chosen)} folds, ' if len(chosen) > 1 else ''}{counted(len(group.jobs), 'seed')}"
    says = f"{group.label}: the best of a sweep, {figure}."
    more = " ".join(["", *map(shlex.quote, write_experiment(group.jobs[0], path, says))])
    out = console()
    print_table(out, chosen, [])
    for job in (job for fold in chosen for job in fold.jobs):
        out.print(str(job.folder), markup=False, soft_wrap=True)
    if options.experiment is None:
        out.print(f"\npython train.py --config-dir={options.folder} experiment=best{more}", markup=False, soft_wrap=True)
    else:
        out.print(f"\n{path}{more}", markup=False, soft_wrap=True)


def retry(options: argparse.Namespace) -> None:
    """Runs what is not complete, each job from its frozen config."""
    from fewshot.sweep.launch import run_jobs, this_machine

    jobs = jobs_in(options.folder)
    if any(isinstance(job, SingleRun) for job in jobs):
        raise UserError(f"{options.folder} holds single runs; python train.py hydra.run.dir=RUN goes on with one")
    left = [job for job in jobs if job.state() not in (State.COMPLETED, State.PRUNED)]
    run_jobs(left, options.folder, this_machine(options.jobs))
    conclude(options.folder, jobs)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    whole = argparse.ArgumentParser(prog="python -m fewshot.sweep", description="Looks at a sweep, and finishes it.")
    commands = whole.add_subparsers(required=True)
    for command in (status, table, best, retry):
        about = str(command.__doc__)
        each = commands.add_parser(command.__name__, help=about, description=about)
        each.set_defaults(command=command)
        each.add_argument("folder", type=Path, metavar="DIR", help="folder of a sweep in logs/train/sweeps, or of single runs")
        if command is table:
            each.add_argument("--baseline", metavar="OVERRIDES", help="config to compare with, as in 'model.inner.lr=0.1'")
            each.add_argument("--markdown", action="store_true", help="print Markdown")
            each.add_argument("--csv", type=Path, metavar="FILE", help="also write CSV, fractions")
            each.add_argument("--plot", type=Path, metavar="FILE", help="also draw a plot: .png, .pdf or .svg")
        if command is best:
            each.add_argument("--experiment", type=Path, metavar="FILE", help="where to write; DIR/experiment/best.yaml")
        if command is retry:
            each.add_argument("--jobs", type=int, metavar="N", help="at once; one per GPU, or one per core without GPUs")
    return whole


if __name__ == "__main__":
    with mistakes_explained("train"):
        chosen = parser().parse_args()
        chosen.command(chosen)
