"""What came of a sweep: its results over seeds and folds, as a table for the terminal, Markdown and CSV."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from fewshot.errors import UserError
from fewshot.evaluation.comparison import EvaluatedRun, Spread, evaluated_run, over_seeds
from fewshot.evaluation.differences import Difference, difference, holm
from fewshot.evaluation.nested import NestedSpread, cluster_bootstrap, coverage_of_folds, nested
from fewshot.evaluation.results import deciding_score
from fewshot.evaluation.scores import formatted, score
from fewshot.sweep.job import Job
from fewshot.sweep.labels import short_label, varied
from fewshot.sweep.report import counted, plain_table

CSV_COLUMNS = (
    "overrides", "seeds", "val_{0}", "test_{0}", "test_{0}_ci95_tasks", "test_{0}_ci95_seeds",
    "difference", "difference_ci95_tasks", "difference_ci95_seeds", "train_seconds",
)  # fmt: skip
"""With the name of the score that decides."""

FOLD_KEYS = ("data.split.fold=", "data.split.which=")
"""What tells the folds of a cross-validation apart; of a published split, the second says which of several it is."""


@dataclass(frozen=True, eq=False)
class Group:
    """The complete runs of one config, over seeds.

    Attributes:
        label: overrides that tell it from the other groups.
        short: the same, in fewer words.
        overrides: the same, one by one.
        jobs: one a seed.
        score: name of the score that decides.
        validated: its mean over seeds on the validation tasks; NaN where none was validated.
        tested: the tests of those runs that were tested.
        train_seconds: mean over seeds.
        split: rule that divides the data.
        commits: of the code that the runs came from.
    """

    label: str
    short: str
    overrides: tuple[str, ...]
    jobs: tuple[Job, ...]
    score: str
    validated: float
    tested: tuple[EvaluatedRun, ...]
    train_seconds: float
    split: str
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


def chosen_baseline(groups: Sequence[Group], words: str) -> list[Group]:
    """The group whose overrides include all that are named, in full or as tables have them; of a cross-validation, its folds.

    Raises:
        UserError: none or several do.
    """
    found = [group for group in groups if set(words.split()) <= {*group.label.split(), *group.short.split()}]
    found = next((folds for folds in cross_validations(groups) if set(folds) == set(found)), found)
    if len(found) != 1 and found not in cross_validations(groups):
        labels = ", ".join(f"'{group.label}'" for group in found or groups)
        raise UserError(f"--baseline='{words}' fits {len(found)} configs; choose one of: {labels}")
    return found


def terminal_table(groups: Sequence[Group], baseline: Sequence[Group]) -> Table:
    """For the terminal."""
    header, *rows = cells(groups, baseline)
    table = plain_table(*header)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def markdown(groups: Sequence[Group], baseline: Sequence[Group]) -> str:
    """For a README or an issue."""
    header, *rows = cells(groups, baseline)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def cells(groups: Sequence[Group], baseline: Sequence[Group]) -> list[list[str]]:
    """A header and a row a group, accuracies in percent, each mean with its intervals over tasks and over seeds.

    The folds of a cross-validation have a row for their mean below, with intervals over folds too, and p-values of differences.

    Args:
        groups: as `groups_of` has them.
        baseline: that the others are compared with, or its folds; empty compares nothing.
    """
    validations = cross_validations(groups)
    over = "± tasks ± seeds" + (" ± folds" if validations else "")
    header = ["config", "seeds", "validation", f"test {over}", "seconds"]
    if baseline:
        header.insert(4, f"difference to {named(baseline)}")
    of_folds = {group for folds in validations for group in folds}
    rows = [_row(group, baseline) for group in groups if group not in of_folds]
    differences = [_difference(folds, baseline) for folds in validations]
    adjusted = iter(holm([found.p for found in differences if found is not None]))
    for folds, found in zip(validations, differences, strict=True):
        rows += [_row(fold, baseline) for fold in folds]
        row = [f"mean of {len(folds)} folds {named(folds)}".strip(), "", *_means(folds), ""]
        if baseline:
            p = "" if found is None else f", p {_p_value(next(adjusted))}"
            row.insert(4, "" if found is None else _spread(folds[0].score, found, "+") + p)
        rows.append(row)
    return [header, *rows]


def cross_validations(groups: Sequence[Group]) -> list[list[Group]]:
    """Groups that differ by what is left out of training alone, where there are several; the best on validation first.

    Folds come in their order, groups that were left out (alphabets) from the easiest to the hardest.
    """
    found: dict[tuple[str, ...], list[Group]] = {}
    for group in groups:
        kept = _without_fold(group.overrides)
        if len(kept) < len(group.overrides) and group.split != "published":
            found.setdefault(kept, []).append(group)
    several = [sorted(folds, key=_difficulty) for folds in found.values() if len(folds) > 1]
    return sorted(several, key=lambda folds: float(np.mean([_merit(fold) for fold in folds])), reverse=True)


def _difficulty(fold: Group) -> tuple[float, tuple[str, ...]]:
    left_out = any(override.startswith(FOLD_KEYS[1]) for override in fold.overrides)
    if not left_out or fold.spread is None:
        return 0.0, fold.overrides
    return fold.spread.mean * (-1 if score(fold.score).mode == "max" else 1), fold.overrides


def named(folds: Sequence[Group]) -> str:
    """A config in few words, without what tells its folds apart where there are several."""
    if len(folds) == 1:
        return folds[0].short
    pairs = zip(folds[0].short.split(" "), folds[0].label.split(" "), strict=True)
    return " ".join(short for short, override in pairs if override in _without_fold(folds[0].overrides))


def nested_spread(folds: Sequence[Group]) -> NestedSpread | None:
    """Of the score on the test tasks of a cross-validation; None where not all folds were tested."""
    if not all(fold.tested for fold in folds):
        return None
    return nested([np.stack([run.figures for run in fold.tested]) for fold in folds])


def explanation(groups: Sequence[Group], compared: bool) -> list[str]:
    """What the intervals of cross-validations answer, and how far that over folds can be trusted; nothing without any.

    Args:
        groups: as `groups_of` has them.
        compared: whether differences are shown.
    """
    lines = []
    for folds in cross_validations(groups):
        spread = nested_spread(folds)
        if spread is None:
            continue
        runs = [np.stack([run.figures for run in fold.tested]) for fold in folds]
        low, high = (formatted(folds[0].score, edge) for edge in cluster_bootstrap(runs))
        lines.append(f"{named(folds) or 'mean'}: bootstrap of folds, then seeds, then tasks: {low} to {high}")
        ratio = float(np.mean([run.test_to_train for fold in folds for run in fold.tested]))
    if not lines:
        return []
    held = (
        ""
        if math.isnan(ratio)
        else f": it holds the mean in about {100 * coverage_of_folds(len(folds), ratio / (1 + ratio)):.0f} % of cases, not 95"
    )
    lines[:0] = [
        "± tasks: other tasks of these classes, for these trained models. ± seeds: training again on these folds.",
        f"± folds: other classes. Student's t with {len(folds) - 1} degrees, too narrow as folds share training classes{held}.",
    ]
    if compared:
        lines.append(
            "Differences are paired by fold, seed and task; over folds, the corrected resampled t-test (Nadeau & Bengio 2003). "
            "p: the largest over tasks, seeds and folds, by Holm's correction."
        )
    return lines


def csv_text(groups: Sequence[Group], baseline: Sequence[Group]) -> str:
    """Fractions, for other programs; what there is not stays empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.format(groups[0].score) for column in CSV_COLUMNS])
    for group in groups:
        figures = [group.validated, *_parts(group.spread), *_parts(_difference([group], baseline)), group.train_seconds]
        rounded = ["" if math.isnan(figure) else f"{figure:.9g}" for figure in figures]
        writer.writerow([group.label, len(group.jobs), *rounded])
    return text.getvalue()


def _group(jobs: list[Job], complete: dict[Job, dict[str, Any]], told_apart: list[str]) -> Group:
    results = [complete[job] for job in jobs]
    overrides = [override for override in _without_seed(jobs[0]) if override in told_apart]
    decides = deciding_score(results[0])
    tested = [run for job in jobs if (run := evaluated_run(job.folder, complete[job])) is not None]
    return Group(
        label=" ".join(overrides) or "all",
        short=short_label(overrides, told_apart) or "all",
        overrides=tuple(overrides),
        jobs=tuple(jobs),
        score=decides,
        validated=float(np.mean([each["metrics"].get(f"val/{decides}", math.nan) for each in results])),
        tested=tuple(tested),
        train_seconds=float(np.mean([each["cost"].get("train_seconds", math.nan) for each in results])),
        split=str((results[0]["protocol"].get("split_rule") or {}).get("rule")),
        commits=frozenset(str(each["provenance"].get("git_commit")) for each in results),
    )


def _without_seed(job: Job) -> list[str]:
    return [override for override in job.record()["overrides"] if not override.startswith("seed=")]


def _without_fold(overrides: Sequence[str]) -> tuple[str, ...]:
    return tuple(override for override in overrides if not override.startswith(FOLD_KEYS))


def _row(group: Group, baseline: Sequence[Group]) -> list[str]:
    found = _difference([group], baseline)
    difference_cell = [] if not baseline else [_spread(group.score, found, "+") if found else "" if group in baseline else "–"]
    return [
        group.short,
        str(len(group.jobs)),
        _shown(group.score, group.validated),
        _spread(group.score, group.spread),
        *difference_cell,
        _seconds(group.train_seconds),
    ]


def _means(folds: Sequence[Group]) -> list[str]:
    """Of validation and test."""
    name = folds[0].score
    return [_shown(name, float(np.mean([fold.validated for fold in folds]))), _spread(name, nested_spread(folds))]


def _difference(groups: Sequence[Group], baseline: Sequence[Group]) -> Difference | None:
    """None of the baseline itself, and where nothing is paired."""
    ours, theirs = ([run for group in side for run in group.tested] for side in (groups, baseline))
    if not ours or not theirs or any(group in baseline for group in groups):
        return None
    found = difference(ours, theirs)
    return found if found.paired else None


def _parts(spread: Spread | Difference | None) -> list[float]:
    return [math.nan] * 3 if spread is None else [spread.mean, spread.ci95_tasks, spread.ci95_seeds]


def _shown(name: str, figure: float, sign: str = "") -> str:
    return "–" if math.isnan(figure) else formatted(name, figure, sign)


def _seconds(figure: float) -> str:
    return "–" if math.isnan(figure) else f"{figure:.0f}"


def _p_value(p: float) -> str:
    return "–" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _spread(name: str, spread: Spread | NestedSpread | Difference | None, sign: str = "") -> str:
    if spread is None:
        return "–"
    widths = [spread.ci95_tasks, spread.ci95_seeds]
    if not isinstance(spread, Spread) and spread.folds > 1:
        widths.append(spread.ci95_folds)
    return " ± ".join([_shown(name, spread.mean, sign), *(_shown(name, width) for width in widths)])
