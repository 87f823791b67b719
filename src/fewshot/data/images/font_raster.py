"""Letter outlines of TrueType fonts, and their rasterisation, with the same bytes on every machine.

Rendered letters change with FreeType's version and hinting, sines and exponentials with the processor. Here outlines are read
unhinted in font units, and everything after is IEEE additions, multiplications and divisions in a fixed order.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
CURVE_POINTS = (0.25, 0.5, 0.75, 1.0)
"""Where a quadratic curve is sampled after its start."""
SUPERSAMPLING = 4
"""Scan lines, and columns, a pixel."""
MOVE, LINE, CURVE = 1, 2, 3
"""Codes of a path's points (matplotlib.path.Path): a curve is two points, its control point and its end."""


class Face:
    """One font file.

    Attributes:
        characters: code points that the face can draw.
    """

    def __init__(self, path: Path) -> None:
        from matplotlib.ft2font import FT2Font, LoadFlags

        self._font = FT2Font(str(path))
        self._flags = LoadFlags.NO_SCALE | LoadFlags.NO_HINTING | LoadFlags.IGNORE_TRANSFORM
        self.characters = frozenset(self._font.get_charmap())

    def outline(self, character: int) -> FloatArray | None:
        """The edges of a character's closed contours, ``(edges, 2 ends, 2)`` as x, y, y upward; None where it is blank."""
        self._font.load_char(character, flags=self._flags)
        points, codes = self._font.get_path()
        drawn = codes <= CURVE  # what remains closes a contour, and repeats its first point
        return _edges(points[drawn], codes[drawn]) if drawn.any() else None


def _edges(points: FloatArray, codes: npt.NDArray[np.integer]) -> FloatArray:
    """A path of lines and quadratic curves as short straight edges, each contour closed.

    Lines are divided like curves, so that a distortion can bend them.
    """
    position = np.arange(len(codes))
    first_of_contour = np.maximum.accumulate(np.where(codes == MOVE, position, 0))
    line = np.flatnonzero(codes == LINE)
    control = np.flatnonzero((codes == CURVE) & (np.cumsum(codes == CURVE) % 2 == 1))
    last = np.flatnonzero(np.append(codes[1:] == MOVE, True))

    start = np.concatenate([points[line - 1], points[control - 1], points[last]])
    end = np.concatenate([points[line], points[control + 1], points[first_of_contour[last]]])
    middle = (start + end) * 0.5
    middle[len(line) : len(line) + len(control)] = points[control]
    steps = [start * (s * s) + middle * (2.0 * s * t) + end * (t * t) for t in CURVE_POINTS for s in (1.0 - t,)]
    return np.concatenate([np.stack([a, b], axis=1) for a, b in zip([start, *steps], steps, strict=False)])


def rasterize(edges: FloatArray, image: npt.NDArray[np.int64], count: int, size: int) -> npt.NDArray[np.uint8]:
    """Fills closed contours (non-zero winding rule) with anti-aliased white on black.

    Each scan line counts the contour's crossings, down +1 and up -1; a running sum along the line is the winding number.

    Args:
        edges: ``(edges, 2 ends, 2)`` as x, y in pixels, y downward.
        image: ``(edges,)`` which image each edge belongs to.
        count: number of images.
        size: height and width of an image in pixels.

    Returns:
        ``(count, size, size)``
    """
    lines = size * SUPERSAMPLING
    x, y = edges[:, :, 0] * SUPERSAMPLING, edges[:, :, 1] * SUPERSAMPLING
    upward = y[:, 1] < y[:, 0]
    top, bottom = y.min(axis=1), y.max(axis=1)
    x_top, x_bottom = np.where(upward, x[:, 1], x[:, 0]), np.where(upward, x[:, 0], x[:, 1])
    first = np.clip(np.ceil(top - 0.5), 0, lines).astype(np.int64)
    crossings = np.maximum(np.clip(np.ceil(bottom - 0.5), 0, lines).astype(np.int64) - first, 0)

    edge = np.repeat(np.arange(len(edges)), crossings)
    line = np.arange(len(edge)) - np.repeat(np.cumsum(crossings) - crossings, crossings) + first[edge]
    along = (line + 0.5 - top[edge]) / (bottom[edge] - top[edge])
    column = np.clip(np.ceil(x_top[edge] + along * (x_bottom[edge] - x_top[edge]) - 0.5), 0, lines).astype(np.int64)

    cell = (image[edge] * lines + line) * (lines + 1) + column
    cells = count * lines * (lines + 1)
    turns = np.bincount(cell[~upward[edge]], minlength=cells) - np.bincount(cell[upward[edge]], minlength=cells)
    winding = turns.astype(np.int16).reshape(count, lines, lines + 1)[:, :, :lines].cumsum(axis=2, dtype=np.int16)
    inside = (winding != 0).reshape(count, size, SUPERSAMPLING, size, SUPERSAMPLING).sum(axis=(2, 4))
    full = SUPERSAMPLING * SUPERSAMPLING
    grey: npt.NDArray[np.uint8] = ((inside * 255 + full // 2) // full).astype(np.uint8)
    return grey
