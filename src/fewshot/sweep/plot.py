"""The configs of a sweep as points with their intervals."""

import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from fewshot.errors import UserError
from fewshot.evaluation.comparison import over_seeds
from fewshot.evaluation.scores import score
from fewshot.files import written_whole
from fewshot.sweep.groups import Group, one_score

TASKS: dict[str, Any] = {"color": "tab:blue", "marker": "o", "capsize": 4}
SEEDS: dict[str, Any] = {"color": "tab:orange", "linewidth": 5, "alpha": 0.45}
LABEL_WIDTH = 40
"""Letters of a config in a line beside the plot."""


def plot(groups: Sequence[Group], path: Path) -> None:
    """A point a config with both intervals, and a small one for each seed; PNG, PDF or SVG by the file's ending.

    Raises:
        UserError: nothing was tested, or the ending is unknown.
    """
    from matplotlib.figure import Figure

    shown = [group for group in groups if all(run.is_finite for run in group.tested) and group.tested][::-1]
    if not shown:
        raise UserError("nothing to plot: no run of this sweep was tested (test=false), or none with a finite score")
    one_score(shown)
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
    labels = [fill(group.short, LABEL_WIDTH, break_on_hyphens=False) for group in shown]
    axes.set_yticks(range(len(shown)), labels, fontsize=8, parse_math=False)
    axes.set(xlabel=f"test {score(shown[0].score).axis}")
    axes.grid(axis="x", alpha=0.3)
    handles = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
    with written_whole(path) as file:
        figure.savefig(file, format=path.suffix[1:], dpi=120)
