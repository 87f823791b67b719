"""Figures of the page: what training, adaptation and tests of several configs look like side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fewshot.evaluation.scores import score
from fewshot.report.readings import BINS, Calibration
from fewshot.report.svg import INK, SERIES, SOFT, style

Figures = npt.NDArray[np.floating]

SIZE = (5.4, 3.4)
"""Width and height, inches of 72 units of the page."""
DASHES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P")
MOST = len(SERIES) * len(DASHES)
"""Configs that a figure tells apart."""
SPREAD = 0.4
"""How far configs lie apart about their adaptation step, at the most: those of one step stay nearer to it than to the next."""
LETTERS = 34
"""Of a config's label in a figure."""


@dataclass(frozen=True)
class Curve:
    """A line of a figure.

    Attributes:
        label: of the config.
        runs: x and y of each of its runs.
    """

    label: str
    runs: Sequence[tuple[npt.NDArray[np.integer], Figures]]

    @property
    def mean(self) -> tuple[npt.NDArray[np.integer], Figures]:
        """Over runs, where all of them have a figure."""
        shared = sorted(set.intersection(*(set(x.tolist()) for x, _ in self.runs)))
        found = [dict(zip(x.tolist(), y.tolist(), strict=True)) for x, y in self.runs]
        return np.array(shared), np.array([np.mean([run[step] for run in found]) for step in shared])


@style()
def over_training(curves: Sequence[Curve], ylabel: str, factor: float) -> Figure:
    """Figures over outer steps: the mean over a config's runs, and each run beside it, faintly."""
    figure, axes = _figure()
    names = shortened([curve.label for curve in curves])
    for number, curve in enumerate(curves):
        look = _look(number)
        if len(curve.runs) > 1:
            for x, y in curve.runs:
                axes.plot(x, factor * y, color=look["color"], linewidth=0.7, alpha=0.35)
        x, y = curve.mean
        axes.plot(x, factor * y, label=names[number], markersize=3.5 if len(x) < 30 else 0, **look)
    axes.set(xlabel="outer steps", ylabel=ylabel, xlim=(0, None))
    _legend(figure, axes)
    return figure


@style()
def over_adaptation(curves: Sequence[Curve], widths: Sequence[Figures], ylabel: str, factor: float) -> Figure:
    """Test scores before adaptation and after each step, with the half widths of their intervals over tasks."""
    figure, axes = _figure()
    names = shortened([curve.label for curve in curves])
    for number, (curve, width) in enumerate(zip(curves, widths, strict=True)):
        x, y = curve.mean
        offset = min(0.06, SPREAD / len(curves)) * (number - (len(curves) - 1) / 2)
        axes.errorbar(x + offset, factor * y, factor * width, label=names[number], markersize=4, **_look(number))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="adaptation steps", ylabel=ylabel)
    _legend(figure, axes)
    return figure


@style()
def distributions(labels: Sequence[str], figures: Sequence[Figures], xlabel: str, factor: float) -> Figure:
    """How a score is spread over test tasks: a histogram for each config, its mean as a line and its quartiles as dots."""
    edges = bin_edges(factor * np.concatenate(figures))
    figure = Figure(figsize=(SIZE[0], 1.2 + 0.72 * len(labels)), layout="constrained")
    axes = figure.subplots()
    for row, values in enumerate(figures):
        counts, _ = np.histogram(factor * values, edges)
        tops = 0.8 * counts / max(counts.max(), 1)
        colour = SERIES[row % len(SERIES)]
        axes.stairs(row - tops, edges, baseline=row, fill=True, color=colour, alpha=0.5)
        quartiles = np.percentile(factor * values, [25, 50, 75])
        axes.plot(quartiles, [row] * 3, "o", color=colour, markersize=4, clip_on=False)
        axes.vlines(factor * values.mean(), row - 0.85, row, color=INK, linewidth=1.4)
    axes.set_yticks(range(len(labels)), shortened(labels, 22))
    axes.set(xlabel=f"{xlabel} of a test task", ylim=(len(labels) - 0.85, -1.0))
    axes.grid(axis="y", visible=False)
    return figure


def bin_edges(values: Figures) -> Figures:
    """Edges of at most 31 bins of equal width, each with as many of the values that are possible.

    Accuracies of a task are multiples of one over its queries: among bins with one of these, a bin with two would be a peak.
    """
    levels = np.unique(values.round(6))
    step = np.diff(levels).min() if len(levels) > 1 else 1.0
    width = step * max(1, np.ceil((levels[-1] - levels[0]) / step / 30))
    edges: Figures = np.arange(levels[0] - step / 2, levels[-1] + width, width)
    return edges


@style()
def reliability(labels: Sequence[str], found: Sequence[Calibration]) -> Figure:
    """How often predictions of a confidence are right; on the diagonal as often as they say. Areas are shares of queries."""
    figure, axes = _figure()
    axes.plot([0, 100], [0, 100], color=SOFT, linewidth=1, linestyle=":")
    for number, (label, calibration) in enumerate(zip(shortened(labels), found, strict=True)):
        look, share = _look(number), calibration.queries / calibration.queries.sum()
        x, y = 100 * calibration.confidence, 100 * calibration.accuracy
        name = f"{label}: ECE {100 * calibration.ece:.1f} %"
        axes.plot(x, y, color=look["color"], linestyle=look["linestyle"], label=name)
        axes.scatter(x, y, s=6 + 160 * share, color=look["color"], marker=look["marker"], alpha=0.8)
    axes.set(xlabel=f"confidence of the prediction, % ({BINS} bins)", ylabel="of these right, %", xlim=(0, 101), ylim=(0, 101))
    _legend(figure, axes)
    return figure


def test_steps(results: dict[str, Any], name: str) -> tuple[Figures, Figures]:
    """A score's means before adaptation and after each step, and the half widths of their intervals over tasks."""
    test = results["test"]
    means = np.array(test[f"{name}_per_step"], dtype=np.float64)
    return means, np.array(test.get(f"{name}_per_step_ci95") or [np.nan] * len(means), dtype=np.float64)


def shortened(labels: Sequence[str], letters: int = LETTERS) -> list[str]:
    """The beginnings of labels that are too long for a figure; where others begin alike, from the word on that differs."""
    found = []
    for label in labels:
        words, first = label.split(" "), 0
        for other in labels:
            if len(label) > letters and other != label and other[:letters] == label[:letters]:
                pairs = zip(words[:-1], other.split(" "), strict=False)
                first = max(first, sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)))
        text = f"…{' '.join(words[first:])}" if first else label
        found.append(text if len(text) <= letters else f"{text[: letters - 1]}…")
    return found


def axis_of(name: str) -> tuple[str, float]:
    """The label of a score's axis, and the factor from fractions to what is shown."""
    return score(name).axis, score(name).factor


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    return figure, figure.subplots()


def _look(number: int) -> dict[str, Any]:
    """Colour, dashes and marker of a config: no two are told apart by colour alone."""
    return {
        "color": SERIES[number % len(SERIES)],
        "linestyle": DASHES[(number // len(SERIES) + number) % len(DASHES)],
        "marker": MARKERS[number % len(MARKERS)],
    }


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2 if max(map(len, labels)) < 22 else 1)
