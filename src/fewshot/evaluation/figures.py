"""Pictures of what adaptation does."""

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fewshot.evaluation.record import TaskScores

SHOWN_QUERIES = 5
"""Queries shown of each class."""


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


def task_pictures(
    support: npt.NDArray[np.floating],
    query: npt.NDArray[np.floating],
    predicted: npt.NDArray[np.integer],
    ways: int,
) -> Figure:
    """Tasks side by side: each class's support image, then queries framed green where recognised, red where not.

    A red query carries the number of the class it was taken for; classes are numbered from the top.

    Args:
        support: ``(T, N*K, H, W, 1 or 3)`` from 0 to 1
        query: ``(T, N*Q, H, W, 1 or 3)``
        predicted: ``(T, N*Q)`` class numbers
        ways: ``N``
    """
    tasks, per_class = len(support), query.shape[1] // ways
    shots, shown = support.shape[1] // ways, min(SHOWN_QUERIES, query.shape[1] // ways)
    columns = shown + 2
    figure = Figure(figsize=(0.55 * columns * tasks, 0.62 * ways), layout="constrained")
    for subfigure, images, queries, guesses in zip(
        figure.subfigures(1, tasks, squeeze=False)[0], support, query, predicted, strict=True
    ):
        subfigure.suptitle("support | queries", fontsize=8)
        for axes in (grid := subfigure.subplots(ways, columns, squeeze=False)).flat:
            axes.axis("off")
        for way in range(ways):
            grid[way, 0].text(0.5, 0.5, str(way + 1), ha="center", va="center", fontsize=8)
            _show(grid[way, 1], images[way * shots])
            for j in range(shown):
                row, axes = way * per_class + j, grid[way, j + 2]
                _show(axes, queries[row])
                right = guesses[row] == way
                axes.axis("on")
                axes.set(xticks=[], yticks=[])
                for spine in axes.spines.values():
                    spine.set(color="tab:green" if right else "tab:red", linewidth=2)
                if not right:
                    axes.text(
                        0.98, 0.02, str(guesses[row] + 1), transform=axes.transAxes, ha="right", va="bottom", fontsize=7,
                        color="white", bbox={"facecolor": "tab:red", "pad": 0.6, "linewidth": 0},
                    )  # fmt: skip
    return figure


def _show(axes: Axes, image: npt.NDArray[np.floating]) -> None:
    axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1)
