"""What came of a sweep: its results over seeds and folds, as a table for the terminal, Markdown and CSV."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fewshot.evaluation.comparison import Spread
from fewshot.evaluation.differences import Difference, difference, holm
from fewshot.evaluation.nested import NestedSpread, cluster_bootstrap, coverage_of_folds
from fewshot.evaluation.scores import formatted
from fewshot.sweep.groups import FOLD_KEYS, Group, cross_validations, doubled, named, nested_spread, one_score
from fewshot.sweep.report import counted, plain_table

CSV_COLUMNS = (
    "overrides", "seeds", "val_{0}", "test_{0}", "test_{0}_ci95_tasks", "test_{0}_ci95_seeds",
    "difference", "difference_ci95_tasks", "difference_ci95_seeds", "train_seconds",
    "folds", "test_{0}_ci95_folds", "difference_ci95_folds", "p",
)  # fmt: skip
"""With the name of the score that decides; the last four are of a mean over folds."""
WIDTHS = ("± tasks", "± seeds", "± folds")
"""Half widths that stand behind a mean."""


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
    of_folds = {group for folds in cross_validations(groups) for group in folds}
    rows = [_row(group, baseline) for group in groups if group not in of_folds]
    for folds, found, p in _over_folds(groups, baseline):
        rows += [_row(fold, baseline) for fold in folds]
        name = folds[0].score
        rows.append(
            Row(
                config=f"mean of {len(folds)} folds {named(folds)}".strip(),
                seeds="",
                validation=_shown(name, float(np.mean([fold.validated for fold in folds]))),
                test=_spread(name, nested_spread(folds)),
                difference=() if found is None else _spread(name, found, "+"),
                p="" if found is None else _p_value(p),
                seconds="",
            )
        )
    return rows


def _over_folds(groups: Sequence[Group], baseline: Sequence[Group]) -> list[tuple[list[Group], Difference | None, float]]:
    """The folds of each cross-validation, their difference to the baseline, and its p-value by Holm's correction for all."""
    validations = cross_validations(groups)
    differences = [_difference(folds, baseline) for folds in validations]
    adjusted = iter(holm([found.p for found in differences if found is not None]))
    return [
        (folds, found, math.nan if found is None else next(adjusted))
        for folds, found in zip(validations, differences, strict=True)
    ]


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
    ratio = float(np.mean([run.test_to_train for fold in folds for run in fold.tested]))
    held = "" if math.isnan(ratio) else f"{100 * coverage_of_folds(len(folds), ratio / (1 + ratio)):.0f}"
    how = "" if not held else ", by little" if held == "95" else f": it holds the mean in about {held} % of cases, not 95"
    return f"Student's t with {counted(len(folds) - 1, 'degree')}, too narrow as folds share training classes{how}."


def csv_text(groups: Sequence[Group], baseline: Sequence[Group]) -> str:
    """Fractions, for other programs; what there is not stays empty. Means over folds come last, and say how many there are.

    Raises:
        UserError: the groups have different scores, and a column is of one.
    """
    text, name = io.StringIO(), one_score(groups)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.format(name) for column in CSV_COLUMNS])
    for group in groups:
        figures = [group.validated, *_parts(group.spread), *_parts(_difference([group], baseline)), group.train_seconds]
        writer.writerow([group.label, len(group.jobs), *map(_rounded, figures), "", "", "", ""])
    for folds, found, p in _over_folds(groups, baseline):
        spread = nested_spread(folds)
        validated, seconds = (
            float(np.mean(figures)) for figures in zip(*((f.validated, f.train_seconds) for f in folds), strict=True)
        )
        kept = [override for override in folds[0].overrides if not override.startswith(FOLD_KEYS)]
        figures = [validated, *_parts(spread), *_parts(found), seconds]
        of_folds = [math.nan if each is None else each.ci95_folds for each in (spread, found)]
        row = [" ".join(kept) or "all", min(len(fold.jobs) for fold in folds), *map(_rounded, figures), len(folds)]
        writer.writerow([*row, *map(_rounded, (*of_folds, p))])
    return text.getvalue()


def _rounded(figure: float) -> str:
    return "" if math.isnan(figure) else f"{figure:.9g}"


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
