"""What came of a sweep: its results over seeds and folds, as a table for the terminal, Markdown and CSV."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from rich.console import Console
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

WIDTHS = ("± tasks", "± seeds", "± folds")
"""Half widths that stand behind a mean."""
FOLD_KEYS = ("data.split.fold=", "data.split.which=")
"""What tells the folds of a cross-validation apart; of a published split, the second says which of several it is."""


@dataclass(frozen=True, eq=False)
class Group:
    """The complete runs of one config, over seeds.

    Attributes:
        overrides: that tell it from the other groups.
        words: the same, each in as few words as tell it apart.
        jobs: one a seed.
        score: name of the score that decides.
        validated: its mean over seeds on the validation tasks; NaN where none was validated.
        tested: the tests of those runs that were tested.
        train_seconds: mean over seeds.
        split: rule that divides the data.
        commits: of the code that the runs came from.
    """

    overrides: tuple[str, ...]
    words: tuple[str, ...]
    jobs: tuple[Job, ...]
    score: str
    validated: float
    tested: tuple[EvaluatedRun, ...]
    train_seconds: float
    split: str
    commits: frozenset[str]

    @property
    def label(self) -> str:
        """The overrides in a line."""
        return " ".join(self.overrides) or "all"

    @property
    def short(self) -> str:
        """The same, in fewer words."""
        return " ".join(self.words) or "all"

    @property
    def called(self) -> frozenset[str]:
        """The words that name it as a baseline: its overrides in full and in short, and their values alone."""
        values = [override.partition("=")[2] for override in self.overrides]
        return frozenset([*self.label.split(), *self.short.split(), *values])

    @property
    def spread(self) -> Spread | None:
        """Of the score on the test tasks."""
        return over_seeds(self.tested) if self.tested else None


def groups_of(jobs: Sequence[Job]) -> list[Group]:
    """The complete jobs, put together where they differ by their seed alone; the best on validation first.

    Raises:
        UserError: no job is complete, or those of one config were tested on different tasks.
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
    """The group that all words name (`Group.called`); of a cross-validation, its folds.

    Raises:
        UserError: they name none or several.
    """
    found = [group for group in groups if set(words.split()) <= group.called]
    found = next((folds for folds in cross_validations(groups) if set(folds) == set(found)), found)
    if len(found) != 1 and found not in cross_validations(groups):
        if twice := doubled(groups):
            raise UserError(twice[0])
        labels = ", ".join(f"'{group.label}'" for group in found or groups)
        raise UserError(f"--baseline='{words}' fits {len(found)} configs; choose one of: {labels}")
    return found


def one_score(groups: Sequence[Group]) -> str:
    """The name of the score by which all are decided.

    Raises:
        UserError: they have several, so that none is the best and no column holds them all.
    """
    scores = sorted({group.score for group in groups})
    if len(scores) > 1:
        raise UserError(f"the runs are decided by different scores ({', '.join(scores)}); take those of one score at a time")
    return scores[0]


def print_table(out: Console, groups: Sequence[Group], baseline: Sequence[Group]) -> None:
    """Prints results, differences below them, and what their intervals mean; in `WIDTH` columns a config is folded.

    Args:
        out: the terminal.
        groups: as `groups_of` has them.
        baseline: that the others are compared with, or its folds; empty compares nothing.
    """
    rows = _rows(groups, baseline)
    widths = WIDTHS[: max(len(row.test) for row in rows) - 1]
    table = _of_figures("config", "seeds", "val", "test", *widths, "seconds")
    for row in rows:
        table.add_row(Text(row.config), row.seeds, row.validation, *_padded(row.test, len(widths) + 1), row.seconds)
    out.print(table)
    if baseline:
        out.print(f"\ndifference to {named(baseline)}", markup=False)
        table = _of_figures("config", "difference", *widths, *(["p"] if any(row.p for row in rows) else []))
        for row in rows:
            if row.difference:
                table.add_row(Text(row.config), *_padded(row.difference, len(widths) + 1), row.p)
        out.print(table)
    for line in explanation(groups, bool(baseline)):
        out.print(line, markup=False)


def _of_figures(first: str, *header: str) -> Table:
    """A table whose first column is folded where it is too wide, and no other."""
    table = plain_table(first, *header)
    table.collapse_padding = True
    for column in table.columns[1:]:
        column.no_wrap = True
    return table


def _padded(figures: Sequence[str], count: int) -> list[str]:
    return [*figures, *[""] * (count - len(figures))]


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
    over = " ".join(WIDTHS if cross_validations(groups) else WIDTHS[:2])
    header = ["config", "seeds", "validation", f"test {over}", "seconds"]
    if baseline:
        header.insert(4, f"difference to {named(baseline)}")
    rows = []
    for row in _rows(groups, baseline):
        p = f", p {row.p}" if row.p else ""
        difference_cell = [" ± ".join(row.difference) + p] if baseline else []
        rows.append([row.config, row.seeds, row.validation, " ± ".join(row.test), *difference_cell, row.seconds])
    return [header, *rows]


@dataclass(frozen=True)
class Row:
    """The cells of a config, or of the mean over its folds; a mean with the half widths of its intervals is one of several."""

    config: str
    seeds: str
    validation: str
    test: tuple[str, ...]
    difference: tuple[str, ...]
    p: str
    seconds: str


def _rows(groups: Sequence[Group], baseline: Sequence[Group]) -> list[Row]:
    validations = cross_validations(groups)
    of_folds = {group for folds in validations for group in folds}
    rows = [_row(group, baseline) for group in groups if group not in of_folds]
    differences = [_difference(folds, baseline) for folds in validations]
    adjusted = iter(holm([found.p for found in differences if found is not None]))
    for folds, found in zip(validations, differences, strict=True):
        rows += [_row(fold, baseline) for fold in folds]
        name = folds[0].score
        rows.append(
            Row(
                config=f"mean of {len(folds)} folds {named(folds)}".strip(),
                seeds="",
                validation=_shown(name, float(np.mean([fold.validated for fold in folds]))),
                test=_spread(name, nested_spread(folds)),
                difference=() if found is None else _spread(name, found, "+"),
                p="" if found is None else _p_value(next(adjusted)),
                seconds="",
            )
        )
    return rows


def cross_validations(groups: Sequence[Group]) -> list[list[Group]]:
    """Groups that differ by what is left out of training alone, where there are several; the best on validation first.

    Folds come in their order, groups that were left out (alphabets) from the easiest to the hardest. Where a fold is there
    twice (`doubled`), the groups are none: their mean would count it twice.
    """
    several = [sorted(folds, key=_difficulty) for folds in _by_config(groups) if len(folds) > 1 and not _same_folds(folds)]
    return sorted(several, key=lambda folds: float(np.mean([_merit(fold) for fold in folds])), reverse=True)


def doubled(groups: Sequence[Group]) -> list[str]:
    """A line for each fold that is there twice: the same words on the command line, and another config by other files."""
    lines = []
    for folds in _by_config(groups):
        for one, other in _same_folds(folds):
            folders = " or ".join(str(group.jobs[0].folder) for group in (one, other))
            lines.append(
                f"no mean over folds: '{one.label}' is there twice, with configs that differ (by another version of the "
                f"project, or an edited file); move the runs of one away, which begin with {folders}"
            )
    return lines


def _by_config(groups: Sequence[Group]) -> list[list[Group]]:
    """Groups that differ by what is left out of training alone."""
    found: dict[tuple[str, ...], list[Group]] = {}
    for group in groups:
        kept = _without_fold(group.overrides)
        if len(kept) < len(group.overrides) and group.split != "published":
            found.setdefault(kept, []).append(group)
    return list(found.values())


def _same_folds(folds: Sequence[Group]) -> list[tuple[Group, Group]]:
    return [(one, other) for one, other in combinations(folds, 2) if one.overrides == other.overrides]


def _difficulty(fold: Group) -> tuple[float, tuple[str, ...]]:
    left_out = any(override.startswith(FOLD_KEYS[1]) for override in fold.overrides)
    if not left_out or fold.spread is None:
        return 0.0, fold.overrides
    return fold.spread.mean * (-1 if score(fold.score).mode == "max" else 1), fold.overrides


def named(folds: Sequence[Group]) -> str:
    """A config in few words, without what tells its folds apart where there are several."""
    if len(folds) == 1:
        return folds[0].short
    pairs = zip(folds[0].words, folds[0].overrides, strict=True)
    return " ".join(word for word, override in pairs if not override.startswith(FOLD_KEYS))


def nested_spread(folds: Sequence[Group]) -> NestedSpread | None:
    """Of the score on the test tasks of a cross-validation; None where not all folds were tested."""
    if not all(fold.tested for fold in folds):
        return None
    return nested([np.stack([run.figures for run in fold.tested]) for fold in folds])


def explanation(groups: Sequence[Group], compared: bool) -> list[str]:
    """What the intervals of cross-validations answer, how far that over folds can be trusted, and what has no mean.

    Args:
        groups: as `groups_of` has them.
        compared: whether differences are shown.
    """
    bootstraps, over_folds = [], dict[str, list[str]]()
    for folds in cross_validations(groups):
        if (spread := nested_spread(folds)) is None or math.isnan(spread.mean):
            continue
        name = named(folds) or "mean"
        runs = [np.stack([run.figures for run in fold.tested]) for fold in folds]
        low, high = (formatted(folds[0].score, edge) for edge in cluster_bootstrap(runs))
        bootstraps.append(f"{name}: bootstrap of folds, then seeds, then tasks: {low} to {high}")
        over_folds.setdefault(_of_folds(folds), []).append(name)
    if not bootstraps:
        return doubled(groups)
    lines = [
        *doubled(groups),
        "± tasks: other tasks of these classes, for these trained models. ± seeds: training again on these folds.",
    ]
    for sentence, names in over_folds.items():
        whose = f" of {', '.join(names)}" if len(over_folds) > 1 else ""
        lines.append(f"± folds{whose}: other classes. {sentence}")
    lines += bootstraps
    if compared:
        lines.append(
            "Differences are paired by fold, seed and task; over folds, the corrected resampled t-test (Nadeau & Bengio 2003). "
            "p: the largest over tasks, seeds and folds, by Holm's correction."
        )
    return lines


def _of_folds(folds: Sequence[Group]) -> str:
    """What the interval over the folds of a config is, and how often it holds the mean."""
    ratio, degrees = float(np.mean([run.test_to_train for fold in folds for run in fold.tested])), len(folds) - 1
    held = "" if math.isnan(ratio) else f"{100 * coverage_of_folds(len(folds), ratio / (1 + ratio)):.0f} %"
    held = held and f": it holds the mean in about {held} of cases, not 95"
    return f"Student's t with {degrees} degrees, too narrow as folds share training classes{held}."


def csv_text(groups: Sequence[Group], baseline: Sequence[Group]) -> str:
    """Fractions, for other programs; what there is not stays empty.

    Raises:
        UserError: the groups have different scores, and a column is of one.
    """
    text, name = io.StringIO(), one_score(groups)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.format(name) for column in CSV_COLUMNS])
    for group in groups:
        figures = [group.validated, *_parts(group.spread), *_parts(_difference([group], baseline)), group.train_seconds]
        rounded = ["" if math.isnan(figure) else f"{figure:.9g}" for figure in figures]
        writer.writerow([group.label, len(group.jobs), *rounded])
    return text.getvalue()


def _group(jobs: list[Job], complete: dict[Job, dict[str, Any]], told_apart: list[str]) -> Group:
    results = [complete[job] for job in jobs]
    overrides = [override for override in _without_seed(jobs[0]) if override in told_apart]
    decides = deciding_score(results[0])
    tested = {job: run for job in jobs if (run := evaluated_run(job.folder, complete[job])) is not None}
    lists = {(run.tasks, len(run.figures)): job.folder for job, run in tested.items()}
    if len(lists) > 1:
        one, other, *_ = lists.values()
        raise UserError(
            f"{one} and {other} are runs of one config that were tested on different tasks, as data were replaced meanwhile; "
            "delete results.json of the older one to test it again"
        )
    return Group(
        overrides=tuple(overrides),
        words=tuple(short_label([override], told_apart) for override in overrides),
        jobs=tuple(jobs),
        score=decides,
        validated=float(np.mean([each["metrics"].get(f"val/{decides}", math.nan) for each in results])),
        tested=tuple(tested.values()),
        train_seconds=float(np.mean([each["cost"].get("train_seconds", math.nan) for each in results])),
        split=str((results[0]["protocol"].get("split_rule") or {}).get("rule")),
        commits=frozenset(str(each["provenance"].get("git_commit")) for each in results),
    )


def _without_seed(job: Job) -> list[str]:
    return [override for override in job.record()["overrides"] if not override.startswith("seed=")]


def _without_fold(overrides: Sequence[str]) -> tuple[str, ...]:
    return tuple(override for override in overrides if not override.startswith(FOLD_KEYS))


def _row(group: Group, baseline: Sequence[Group]) -> Row:
    found = _difference([group], baseline)
    return Row(
        config=group.short,
        seeds=str(len(group.jobs)),
        validation=_shown(group.score, group.validated),
        test=_spread(group.score, group.spread),
        difference=() if group in baseline or not baseline else _spread(group.score, found, "+"),
        p="",
        seconds=_seconds(group.train_seconds),
    )


def _difference(groups: Sequence[Group], baseline: Sequence[Group]) -> Difference | None:
    """None of the baseline itself, and where nothing is paired or has a mean."""
    ours, theirs = ([run for group in side for run in group.tested] for side in (groups, baseline))
    if not ours or not theirs or any(group in baseline for group in groups):
        return None
    if len({run.score for run in (*ours, *theirs)}) > 1 or not all(run.is_finite for run in (*ours, *theirs)):
        return None
    found = difference(ours, theirs)
    return found if found.paired else None


def _parts(spread: Spread | NestedSpread | None) -> list[float]:
    return [math.nan] * 3 if spread is None else [spread.mean, spread.ci95_tasks, spread.ci95_seeds]


def _shown(name: str, figure: float, sign: str = "") -> str:
    return "–" if math.isnan(figure) else formatted(name, figure, sign)


def _seconds(figure: float) -> str:
    return "–" if math.isnan(figure) else f"{figure:.0f}"


def _p_value(p: float) -> str:
    return "–" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _spread(name: str, spread: Spread | NestedSpread | None, sign: str = "") -> tuple[str, ...]:
    """The mean and the half widths of its intervals."""
    if spread is None:
        return ("–",)
    if math.isnan(spread.mean):
        return ("not finite",)
    widths = [spread.ci95_tasks, spread.ci95_seeds]
    if isinstance(spread, NestedSpread) and spread.folds > 1:
        widths.append(spread.ci95_folds)
    return _shown(name, spread.mean, sign), *(_shown(name, width) for width in widths)
