"""How configs stand to each other: means with their intervals, and whether the best is better than every other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fewshot.evaluation.differences import Difference, difference, holm
from fewshot.evaluation.scores import formatted, score
from fewshot.report.configs import Config
from fewshot.report.tables import NOTHING, Cell, figure_cell

WIDTHS = {
    "± tasks": "over tasks, for other test tasks and these trained models",
    "± seeds": "over seeds, for training again",
    "± folds": "over folds, for other classes, and too narrow, for folds share what they train on",
}
"""What the half widths of a table's columns are of."""
DIFFERENCE = (
    "Differences to the best are paired, with the widest of their intervals; p is the largest of those over tasks, seeds and "
    "folds, corrected for the number of comparisons (Holm); – where it is not known. Bold: better than every other, p < 0.05."
)
EXTENTS = "Each mean is over all folds, seeds and tasks of its own config, a difference over those that both have."


@dataclass(frozen=True)
class Standing:
    """A config beside the best.

    Attributes:
        leads: whether its mean is the best.
        difference: to the best; None for the best itself, and where test tasks are others or there are none.
        p: of no difference, corrected by Holm for all that are compared with the best; NaN where there is none.
        decided: whether it leads, and every other is worse, each at 5 % on the tasks that both have.
    """

    config: Config
    leads: bool
    difference: Difference | None
    p: float
    decided: bool


def standings(configs: Sequence[Config]) -> list[Standing]:
    """The configs, in their order."""
    sign = 1 if score(configs[0].score).mode == "max" else -1
    spreads = {config.label: config.spread for config in configs}
    means = {label: sign * one.mean for label, one in spreads.items() if one is not None and not math.isnan(one.mean)}
    leader = max(means, key=means.__getitem__, default=None)
    best = next((config for config in configs if config.label == leader), None)
    found = {
        config.label: difference(config.evaluated, best.evaluated)
        for config in configs
        if best is not None and config.label in means and config is not best
    }
    paired = {label: one for label, one in found.items() if one.paired}
    corrected = dict(zip(paired, holm([one.p for one in paired.values()]), strict=True))
    worse = (one.verdict(corrected[label]) == "worse" for label, one in paired.items())
    decided = bool(found) and len(paired) == len(found) and all(worse)
    return [
        Standing(
            config, config is best, paired.get(config.label), corrected.get(config.label, math.nan), decided and config is best
        )
        for config in configs
    ]


def cells(found: Sequence[Standing]) -> tuple[list[str], list[list[Cell]]]:
    """A header and a row a config; columns that none has a figure for are left out."""
    name = found[0].config.score
    unit = ", %" if score(name).percent else ""
    figures = [f"validation{unit}", f"test {score(name).label}{unit}"]
    header = ["config", "runs", *figures, *WIDTHS, "difference", "± difference", "p"]
    rows = []
    for standing in found:
        config, spread, other = standing.config, standing.config.spread, standing.difference
        widths = [math.nan] * 3 if spread is None else [spread.ci95_tasks, spread.ci95_seeds, spread.ci95_folds]
        rows.append(
            [
                Cell(config.label, bold=standing.decided),
                Cell(str(len(config.runs)), len(config.runs)),
                shown(name, config.validated),
                shown(name, math.nan if spread is None else spread.mean, bold=standing.decided),
                *(shown(name, width) for width in widths),
                shown(name, math.nan if other is None else other.mean, sign="+"),
                shown(name, math.nan if other is None else _half_width(other)),
                figure_cell(standing.p, ".2g"),
            ]
        )
    kept = [column for column, of_rows in enumerate(zip(*rows, strict=True)) if any(cell.text != NOTHING for cell in of_rows)]
    return [header[column] for column in kept], [[row[column] for column in kept] for row in rows]


def remark(found: Sequence[Standing]) -> str:
    """What the figures of the table mean."""
    header, _ = cells(found)
    widths = "; ".join(words for column, words in WIDTHS.items() if column in header)
    tested = [(one, one.config.spread.mean) for one in found if one.config.spread is not None]
    apart = [one.config.label for one, mean in tested if not math.isnan(mean) and not one.leads and one.difference is None]
    diverged = ", ".join(one.config.label for one, mean in tested if math.isnan(mean))
    compared = [one.config for one in found if one.leads or one.difference is not None]
    extents = {frozenset((run.tasks, len(run.figures), run.seed) for run in config.evaluated) for config in compared}
    return " ".join(
        [
            *([f"± is half the width of a 95 % interval: {widths}."] if widths else []),
            *([DIFFERENCE] if "difference" in header else []),
            *([EXTENTS] if len(extents) > 1 else []),
            *([f"Not compared with the best, for tested on other tasks: {', '.join(apart)}."] if apart else []),
            *([f"Without a mean, as outputs of some test tasks are not finite: {diverged}."] if diverged else []),
        ]
    )


def shown(name: str, value: float, sign: str = "", bold: bool = False) -> Cell:
    """A figure of a score, in percent where it is shown so."""
    return Cell(NOTHING) if math.isnan(value) else Cell(formatted(name, value, sign), value, bold)


def _half_width(other: Difference) -> float:
    """The widest of its intervals, over tasks, seeds or folds; NaN of one task of one run."""
    widths = (other.ci95_tasks, other.ci95_seeds, other.ci95_folds)
    return max((width for width in widths if not math.isnan(width)), default=math.nan)
