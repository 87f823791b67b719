"""What came of a sweep: its results over seeds, as a table for the terminal, Markdown, CSV, and as a plot."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from fewshot.errors import UserError
from fewshot.evaluation.comparison import EvaluatedRun, Spread, evaluated_run, over_seeds, paired_difference
from fewshot.evaluation.results import deciding_score
from fewshot.evaluation.scores import formatted, score
from fewshot.files import written_whole
from fewshot.sweep.job import Job
from fewshot.sweep.labels import short_label, varied
from fewshot.sweep.report import counted, plain_table

CSV_COLUMNS = (
    "overrides", "seeds", "val_{0}", "test_{0}", "test_{0}_ci95_tasks", "test_{0}_ci95_seeds",
    "difference", "difference_ci95_tasks", "difference_ci95_seeds", "train_seconds",
)  # fmt: skip
"""With the name of the score that decides."""

FOLD_KEYS = ("data.split.fold=", "data.split.which=")
"""What tells the folds of a cross-validation apart."""
TASKS: dict[str, Any] = {"color": "tab:blue", "marker": "o", "capsize": 4}
SEEDS: dict[str, Any] = {"color": "tab:orange", "linewidth": 5, "alpha": 0.45}
LABEL_WIDTH = 40
"""Letters of a config in a line beside the plot."""


@dataclass(frozen=True)
class Group:
    """The complete runs of one config, over seeds.

    Attributes:
        label: overrides that tell it from the other groups.
        short: the same, in fewer words.
        jobs: one a seed.
        score: name of the score that decides.
        validated: its mean over seeds on the validation tasks; NaN where none was validated.
        tested: the tests of those runs that were tested.
        train_seconds: mean over seeds.
        commits: of the code that the runs came from.
    """

    label: str
    short: str
    jobs: tuple[Job, ...]
    score: str
    validated: float
    tested: tuple[EvaluatedRun, ...]
    train_seconds: float
    commits: frozenset[str]

    @property
    def spread(self) -> Spread | None:
        """Of the score on the test tasks."""
        return over_seeds(self.tested) if self.tested else None


def groups_of(jobs: Sequence[Job]) -> list[Group]:
    """The complete jobs, put together where they differ by their seed alone; the best on validation first.

    Raises:
        UserError: no job is complete.
    """
    complete = {job: results for job in jobs if (results := job.results()) is not None}
    if not complete:
        raise UserError(f"of {counted(len(jobs), 'job')} none is complete yet; see python -m fewshot.sweep status DIR")
    members: dict[str, dict[int, Job]] = {}
    for job, results in complete.items():
        members.setdefault(job.record()["group"], {})[results["protocol"].get("seed")] = job  # a run done again counts once
    told_apart = varied([_without_seed(next(iter(found.values()))) for found in members.values()])
    groups = [_group(list(found.values()), complete, told_apart) for found in members.values()]
    return sorted(groups, key=_merit, reverse=True)


def _merit(group: Group) -> float:
    """How well a group validated, higher is better."""
    if math.isnan(group.validated):
        return -math.inf
    return group.validated if score(group.score).mode == "max" else -group.validated


def chosen_baseline(groups: Sequence[Group], words: str) -> Group:
    """The group whose overrides include all that are named, in full or as tables have them.

    Raises:
        UserError: none or several do.
    """
    found = [group for group in groups if set(words.split()) <= {*group.label.split(), *group.short.split()}]
    if len(found) != 1:
        labels = ", ".join(f"'{group.label}'" for group in found or groups)
        raise UserError(f"--baseline='{words}' fits {len(found)} configs; choose one of: {labels}")
    return found[0]


def terminal_table(groups: Sequence[Group], baseline: Group | None) -> Table:
    """For the terminal."""
    header, *rows = cells(groups, baseline)
    table = plain_table(*header)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def markdown(groups: Sequence[Group], baseline: Group | None) -> str:
    """For a README or an issue."""
    header, *rows = cells(groups, baseline)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def cells(groups: Sequence[Group], baseline: Group | None) -> list[list[str]]:
    """A header and a row a group, accuracies in percent, each mean with its intervals over tasks and over seeds.

    The folds of a cross-validation have a row for their mean below. It has no interval: their training sets overlap.
    """
    header = ["config", "seeds", "validation", "test ± tasks ± seeds", "seconds"]
    if baseline is not None:
        header.insert(4, f"difference to {baseline.short}")
    rows = []
    for group in groups:
        row = [
            group.short,
            str(len(group.jobs)),
            _shown(group.score, group.validated),
            _spread(group.score, group.spread),
            _seconds(group.train_seconds),
        ]
        if baseline is not None:
            row.insert(4, "" if group is baseline else _spread(group.score, _difference(group, baseline), sign="+"))
        rows.append(row)
    return [header, *rows, *(_mean_of_folds(folds, len(header)) for folds in cross_validations(groups))]


def cross_validations(groups: Sequence[Group]) -> list[list[Group]]:
    """Groups that differ by what is left out of training alone, where there are several."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        kept = [override for override in group.label.split() if not override.startswith(FOLD_KEYS)]
        if len(kept) < len(group.label.split()):
            found.setdefault(" ".join(kept), []).append(group)
    return [folds for folds in found.values() if len(folds) > 1]


def _mean_of_folds(folds: Sequence[Group], columns: int) -> list[str]:
    pairs = zip(folds[0].short.split(), folds[0].label.split(), strict=True)
    others = [short for short, override in pairs if not override.startswith(FOLD_KEYS)]
    tested = [fold.spread.mean for fold in folds if fold.spread is not None]
    figures = np.mean([fold.validated for fold in folds]), np.mean(tested) if len(tested) == len(folds) else math.nan
    validated, mean = (_shown(folds[0].score, float(figure)) for figure in figures)
    row = [" ".join([f"mean of {len(folds)} folds", *others]), "", validated, mean]
    return [*row, *[""] * (columns - len(row))]


def csv_text(groups: Sequence[Group], baseline: Group | None) -> str:
    """Fractions, for other programs; what there is not stays empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.format(groups[0].score) for column in CSV_COLUMNS])
    for group in groups:
        difference = _difference(group, baseline) if baseline is not None and group is not baseline else None
        figures = [group.validated, *_parts(group.spread), *_parts(difference), group.train_seconds]
        rounded = ["" if math.isnan(figure) else f"{figure:.9g}" for figure in figures]
        writer.writerow([group.label, len(group.jobs), *rounded])
    return text.getvalue()


def plot(groups: Sequence[Group], path: Path) -> None:
    """A point a config with both intervals, and a small one for each seed; PNG, PDF or SVG by the file's ending.

    Raises:
        UserError: nothing was tested, or the ending is unknown.
    """
    from matplotlib.figure import Figure

    shown = [group for group in groups if group.tested][::-1]
    if not shown:
        raise UserError("nothing to plot: no run of this sweep was tested (test=false)")
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise UserError(f"--plot={path} must end in .png, .pdf or .svg")
    figure = Figure(figsize=(8, 1.8 + 0.45 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for height, group in enumerate(shown):
        spread = over_seeds(group.tested)
        factor = score(group.score).factor
        center = factor * spread.mean
        axes.errorbar(center, height, xerr=factor * spread.ci95_tasks, label="95 % interval over tasks", **TASKS)
        if not math.isnan(spread.ci95_seeds):
            axes.errorbar(center, height, xerr=factor * spread.ci95_seeds, label="95 % interval over seeds", **SEEDS)
        seeds = [factor * float(np.mean(run.figures)) for run in group.tested]
        axes.plot(seeds, [height] * len(seeds), "k|", markersize=9, label="a seed")
    axes.set_yticks(range(len(shown)), [fill(group.short, LABEL_WIDTH, break_on_hyphens=False) for group in shown], fontsize=8)
    axes.set(xlabel=f"test {score(shown[0].score).axis}")
    axes.grid(axis="x", alpha=0.3)
    handles = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
    with written_whole(path) as file:
        figure.savefig(file, format=path.suffix[1:], dpi=120)


def _group(jobs: list[Job], complete: dict[Job, dict[str, Any]], told_apart: list[str]) -> Group:
    results = [complete[job] for job in jobs]
    overrides = [override for override in _without_seed(jobs[0]) if override in told_apart]
    decides = deciding_score(results[0])
    tested = [run for job in jobs if (run := evaluated_run(job.folder, complete[job])) is not None]
    return Group(
        label=" ".join(overrides) or "all",
        short=short_label(overrides, told_apart) or "all",
        jobs=tuple(jobs),
        score=decides,
        validated=float(np.mean([each["metrics"].get(f"val/{decides}", math.nan) for each in results])),
        tested=tuple(tested),
        train_seconds=float(np.mean([each["cost"].get("train_seconds", math.nan) for each in results])),
        commits=frozenset(str(each["provenance"].get("git_commit")) for each in results),
    )


def _without_seed(job: Job) -> list[str]:
    return [override for override in job.record()["overrides"] if not override.startswith("seed=")]


def _difference(group: Group, baseline: Group) -> Spread | None:
    return paired_difference(group.tested, baseline.tested) if group.tested and baseline.tested else None


def _parts(spread: Spread | None) -> list[float]:
    return [math.nan] * 3 if spread is None else [spread.mean, spread.ci95_tasks, spread.ci95_seeds]


def _shown(name: str, figure: float, sign: str = "") -> str:
    return "–" if math.isnan(figure) else formatted(name, figure, sign)


def _seconds(figure: float) -> str:
    return "–" if math.isnan(figure) else f"{figure:.0f}"


def _spread(name: str, spread: Spread | None, sign: str = "") -> str:
    if spread is None:
        return "–"
    parts = _shown(name, spread.mean, sign), _shown(name, spread.ci95_tasks), _shown(name, spread.ci95_seeds)
    return " ± ".join(parts)
