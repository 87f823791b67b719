"""Curves and maps of what adaptation does."""

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from fewshot.evaluation.record import TaskScores

Figures = npt.NDArray[np.floating]


def adaptation_curve(scores: TaskScores, split: str) -> Figure:
    """Mean accuracy over tasks, with its interval, before adaptation and after each step."""
    intervals = scores.accuracy_per_step
    means, widths = np.array([[100 * i.mean, 100 * i.ci95] for i in intervals]).T
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.errorbar(range(len(means)), means, yerr=widths, marker="o", capsize=3)
    axes.set(xlabel="adaptation steps", ylabel="accuracy, %", title=f"{split}: {len(scores.index)} tasks, 95 % interval")
    axes.set_xticks(range(len(means)))
    axes.grid(alpha=0.3)
    return figure


def adaptation_over_time(steps: npt.NDArray[np.integer], accuracy: Figures, loss: Figures) -> Figure:
    """Accuracy and loss over the outer steps of training, a line for each number of adaptation steps.

    Args:
        steps: ``(V,)`` outer steps done at each validation.
        accuracy: ``(V, steps+1)`` means over the validation tasks, before adaptation and after each step.
        loss: ``(V, steps+1)``
    """
    lines = accuracy.shape[1]
    colours = matplotlib.colormaps["viridis"](np.linspace(0.9, 0, lines))
    figure = Figure(figsize=(5, 5.6))
    for axes, values, name in zip(figure.subplots(2, 1), (100 * accuracy, loss), ("accuracy, %", "loss"), strict=True):
        for line, colour in enumerate(colours):
            label = "before adaptation" if line == 0 else f"after {line} step{'s' if line > 1 else ''}"
            axes.plot(steps, values[:, line], color=colour, marker="o", markersize=3, label=label, clip_on=False)
        axes.set(ylabel=f"validation {name}", xlim=(0, int(steps[-1])))
        axes.grid(alpha=0.3)
    axes.set_xlabel("outer steps")
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
    axes.set_yticks(range(layers), names, fontsize=8)
    axes.set(xlabel="adaptation step", title="learned inner rates")
    middle = (rates.min() + rates.max()) / 2
    for (layer, step), rate in np.ndenumerate(rates):
        axes.text(step, layer, f"{rate:.3g}", ha="center", va="center", fontsize=7, color="white" if rate < middle else "black")
    figure.colorbar(image)
    figure.subplots_adjust(left=2.4 / (3.6 + 0.7 * steps), right=0.97, bottom=0.55 / (1.2 + 0.28 * layers), top=0.9)
    return figure
