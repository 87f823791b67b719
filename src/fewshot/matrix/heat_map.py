"""A table of figures as a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fewshot.files import written_whole

Figures = npt.NDArray[np.floating]
CELL = (0.78, 0.42)
"""Width and height of a cell, inches; wider where the name of its column is."""


def write_heat_map(
    path: Path,
    panels: Sequence[tuple[str, Figures]],
    rows: Sequence[str],
    columns: Sequence[str],
    titles: tuple[str, str],
    marked: Sequence[tuple[int, int, int]] = (),
) -> None:
    """Writes a PNG.

    Args:
        path: of the file.
        panels: side by side: a title, and figures ``(rows, columns)``, NaN where there is none.
        rows, columns: their names.
        titles: of the whole picture, and of its columns.
        marked: panels, rows and columns of cells that are framed.
    """
    low, high = np.nanmin([figures for _, figures in panels]), np.nanmax([figures for _, figures in panels])
    cell = max(CELL[0], 0.09 * max(map(len, columns)))
    width = 1.2 + 0.09 * max(map(len, rows)) + cell * len(columns) * len(panels)
    figure = Figure(figsize=(width, 1.5 + CELL[1] * len(rows)), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for number, (axes, (title, figures)) in enumerate(zip(grid, panels, strict=True)):
        axes.imshow(figures, cmap="viridis", aspect="auto", vmin=low, vmax=high)
        for (row, column), value in np.ndenumerate(figures):
            if np.isfinite(value):
                colour = "white" if value < (low + high) / 2 else "black"
                axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=9, color=colour)
        for panel, row, column in marked:
            if panel == number:
                axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="tab:red", linewidth=2.5))
        axes.set_xticks(range(len(columns)), columns, parse_math=False)
        axes.set_yticks(range(len(rows)), rows, parse_math=False)
        axes.set_title(title, fontsize=10, parse_math=False)
        axes.set_xlabel(titles[1], parse_math=False)
    figure.suptitle(titles[0], fontsize=11, parse_math=False)
    with written_whole(path) as file:
        figure.savefig(file, format="png", dpi=120)
