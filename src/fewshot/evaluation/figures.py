"""Curves and maps of what adaptation does."""

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fewshot.evaluation.intervals import mean_interval
from fewshot.evaluation.scores import Score, score
from fewshot.evaluation.task_scores import TaskScores

Figures = npt.NDArray[np.floating]


def adaptation_curve(scores: TaskScores, split: str) -> Figure:
    """The score that decides and the loss, before adaptation and after each step: means over tasks with their intervals.

    The scale is that of the steps: what there was before adaptation, far from all that follows, is written at the edge.
    """
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    shown = score(scores.monitor)
    panels = ((shown.factor * scores.deciding, shown.axis, ".1f" if shown.percent else ".3g"), (scores.loss, "loss", ".3g"))
    for axes, (values, name, digits) in zip(figure.subplots(1, 2), panels, strict=True):
        intervals = [mean_interval(column) for column in values.T]
        means, widths = np.array([[interval.mean, interval.ci95] for interval in intervals]).T
        axes.errorbar(range(len(means)), means, yerr=widths, marker="o", capsize=3)
        for step, mean in enumerate(means):
            beside = (7, -11 if means[-1] > means[0] else 4)  # the line comes from the other side
            axes.annotate(f"{mean:{digits}}", (step, mean), beside, textcoords="offset points", fontsize=8)
        axes.set(xlabel="adaptation steps", ylabel=name, xlim=(-0.6, len(means) - 0.4))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        _scale_to_steps(axes, means, np.nan_to_num(widths), f"{means[0]:{digits}} before")
    figure.suptitle(f"{split}: {len(scores.index)} tasks, 95 % interval")
    return figure


def _scale_to_steps(axes: Axes, means: Figures, widths: Figures, before: str) -> None:
    """Leaves the value before adaptation out, with a word at the edge, where it would hide what steps differ by."""
    if len(means) < 3 or not np.isfinite(means).all():
        return
    low, high = (means - widths)[1:].min(), (means + widths)[1:].max()
    margin = 0.15 * (high - low) or 0.1
    if low - margin <= means[0] <= high + margin:
        return
    axes.set_ylim(low - margin, high + margin)
    below = means[0] < low
    axes.annotate(
        before,
        (0, 0 if below else 1),
        (0, 14 if below else -14),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        arrowprops={"arrowstyle": "->"},
        ha="center",
        va="bottom" if below else "top",
        fontsize=8,
    )


def adaptation_over_time(steps: npt.NDArray[np.integer], figures: Figures, loss: Figures, shown: Score) -> Figure:
    """A score and the loss over the outer steps of training, a line for each number of adaptation steps.

    Args:
        steps: ``(V,)`` outer steps done at each validation.
        figures: ``(V, steps+1)`` means of the score over the validation tasks, before adaptation and after each step.
        loss: ``(V, steps+1)``
        shown: the score.
    """
    lines = figures.shape[1]
    colours = matplotlib.colormaps["viridis"](np.linspace(0.9, 0, lines))
    figure = Figure(figsize=(5, 5.6))
    for axes, values, name in zip(figure.subplots(2, 1), (shown.factor * figures, loss), (shown.axis, "loss"), strict=True):
        for line, colour in enumerate(colours):
            label = "before adaptation" if line == 0 else f"after {line} step{'s' if line > 1 else ''}"
            axes.plot(steps, values[:, line], color=colour, marker="o", markersize=3, label=label)
        axes.set(ylabel=f"validation {name}", xlim=(0, int(steps[-1])))
        axes.grid(alpha=0.3)
        adapted = values[:, 1:][np.isfinite(values[:, 1:])]
        if lines > 2 and adapted.size:  # the scale is that of the steps
            low, high = adapted.min(), adapted.max()
            margin = 0.05 * (high - low) or 0.1
            axes.set_ylim(low - margin, high + margin)
            if not low <= values[-1, 0] <= high:
                edge, side = (0.03, "bottom") if values[-1, 0] < low else (0.97, "top")
                text = f"before adaptation: {values[-1, 0]:.3g}"
                axes.text(0.98, edge, text, transform=axes.transAxes, ha="right", va=side, fontsize=8)
    axes.set_xlabel("outer steps")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*axes.get_legend_handles_labels(), loc="upper center", ncols=3, fontsize=8, frameon=False)
    figure.subplots_adjust(left=0.13, right=0.97, bottom=0.08, top=1 - 0.03 * (2 + (lines - 1) // 3), hspace=0.15)
    return figure


def rate_map(rates: Figures, names: list[str]) -> Figure:
    """Learned inner rates: a row for each adapted parameter tensor, a column for each adaptation step.

    Args:
        rates: ``(layers, steps)``
        names: of the layers.
    """
    layers, steps = rates.shape
    figure = Figure(figsize=(3.6 + 0.7 * steps, 1.2 + 0.28 * layers))
    axes = figure.subplots()
    image = axes.imshow(rates, cmap="viridis", aspect="auto")
    axes.set_xticks(range(steps), [str(step) for step in range(1, steps + 1)])
    axes.set_yticks(range(layers), names, fontsize=8, parse_math=False)
    axes.set(xlabel="adaptation step", title="learned inner rates")
    middle = (rates.min() + rates.max()) / 2
    for (layer, step), rate in np.ndenumerate(rates):
        axes.text(step, layer, f"{rate:.3g}", ha="center", va="center", fontsize=7, color="white" if rate < middle else "black")
    figure.colorbar(image)
    figure.subplots_adjust(left=2.4 / (3.6 + 0.7 * steps), right=0.97, bottom=0.55 / (1.2 + 0.28 * layers), top=0.9)
    return figure
