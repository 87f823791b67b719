"""Pictures of functions that are regressed: the points given, the function, and what is predicted along it."""

from collections.abc import Mapping

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

Numbers = npt.NDArray[np.floating]

COLUMNS = 5
"""Functions side by side."""


def function_pictures(
    index: npt.NDArray[np.integer],
    given: tuple[Numbers, Numbers],
    x: Numbers,
    y: Numbers,
    predicted: Mapping[int, Numbers],
    rmse: Mapping[int, Numbers],
) -> Figure:
    """A panel for each task.

    Args:
        index: ``(T,)`` numbers of the tasks.
        given: inputs and targets of the support set, each ``(T, S)``.
        x: ``(T, B)`` places along the function.
        y: ``(T, B)`` the function.
        predicted: ``(T, B)`` after so many adaptation steps.
        rmse: ``(T,)`` of these along the function.
    """
    rows = -(-len(index) // COLUMNS)
    columns = min(len(index), COLUMNS)
    figure = Figure(figsize=(2.6 * columns, 2.4 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    colours = matplotlib.colormaps["viridis"](np.linspace(0.85, 0, len(predicted)))
    last = max(predicted)
    for task, (axes, number) in enumerate(zip(grid, index, strict=False)):
        axes.plot(x[task], y[task], color="tab:red", linewidth=2, alpha=0.5, label="function")
        for (step, values), colour in zip(predicted.items(), colours, strict=True):
            label = "before adaptation" if step == 0 else f"after {step} step{'s' if step > 1 else ''}"
            style = ":" if step == 0 and len(predicted) > 1 else "-"
            axes.plot(x[task], values[task], style, color=colour, linewidth=1.2, label=label)
        axes.plot(given[0][task], given[1][task], "k^", markersize=4, label="given points")
        axes.set_title(f"task {number}: RMSE {rmse[0][task]:.2f}" + (f" → {rmse[last][task]:.2f}" if last else ""), fontsize=8)
        axes.tick_params(labelsize=6)
    for axes in grid[len(index) :]:
        axes.axis("off")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    return figure
