"""A picture of predictions: each query with its class, the confidence, and the nearest image of the support set."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from fewshot.files import written_whole

SHOWN = 60
"""Queries on a picture, at the most."""
COLUMNS = 6
NAME_LENGTH = 18
"""Letters of a name."""
GAP = 2
"""Pixels between a query and its nearest support image."""


def write_sheet(
    path: Path,
    queries: npt.NDArray[np.uint8],
    nearest: npt.NDArray[np.uint8],
    labels: Sequence[str] | npt.NDArray[Any],
    confidence: Sequence[float] | npt.NDArray[Any],
    known: Sequence[bool | None],
) -> None:
    """Writes a PNG.

    Args:
        path: of the picture.
        queries: the first `SHOWN` of n, ``(shown, C, H, W)``.
        nearest: of the support set, for each, ``(shown, C, H, W)``.
        labels: predicted, of all n.
        confidence: probability of each.
        known: whether each is of a known class; None where that is not told.
    """
    shown = len(queries)
    rows = -(-shown // COLUMNS)
    figure = Figure(figsize=(2.0 * COLUMNS, 1.35 * rows + 0.5), layout="constrained")
    for number, axes in enumerate(figure.subplots(rows, COLUMNS, squeeze=False).flat):
        axes.set_axis_off()
        if number < shown:
            axes.imshow(_side_by_side(queries[number], nearest[number]), cmap="gray", vmin=0, vmax=255)
            caption = f"{labels[number][:NAME_LENGTH]} {100 * confidence[number]:.0f} %"
            unknown = known[number] is False
            colour = "tab:red" if unknown else "black"
            title = "none of these?\n" + caption if unknown else caption
            axes.set_title(title, fontsize=7, color=colour, parse_math=False)  # a class may be called $x$
    rest = f" (the first {shown} of {len(labels):,})" if len(labels) > shown else ""
    figure.suptitle(f"left: query{rest}; right: nearest image of the support set", fontsize=8)
    with warnings.catch_warnings(), written_whole(path) as file:
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # names in a script that the font lacks
        figure.savefig(file, format="png", dpi=120)


def _side_by_side(left: npt.NDArray[np.uint8], right: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    gap = np.full((left.shape[0], left.shape[1], GAP), 255, dtype=np.uint8)
    both = np.concatenate([left, gap, right], axis=2).transpose(1, 2, 0)
    return both[:, :, 0] if both.shape[2] == 1 else both
