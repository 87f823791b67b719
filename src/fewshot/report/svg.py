"""Figures of matplotlib as inline SVG that takes its colours from the page: one drawing, light and dark."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib
from matplotlib.figure import Figure

INK, SOFT, LINE = "#010101", "#010102", "#010103"
"""Text, axes and grid: colours that nothing else has, by which the drawing is made to follow the page's."""
SERIES = ("#010111", "#010112", "#010113", "#010114", "#010115", "#010116")
"""Of curves and bars."""
VARIABLES = {INK: "--ink", SOFT: "--soft", LINE: "--line", **{c: f"--c{number}" for number, c in enumerate(SERIES, start=1)}}
STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a class may be called $x$
    "font.size": 12,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.linewidth": 1.8,
}


@contextmanager
def style() -> Iterator[None]:
    """What figures of the page are drawn in."""
    with matplotlib.rc_context(STYLE):
        yield


def inline(figure: Figure, name: str) -> str:
    """A figure as an ``<svg>`` as wide as the page lets it be.

    Args:
        figure: drawn within `style`.
        name: says what it shows to whoever does not see it; no two figures of a page share it.
    """
    with style(), warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": name}):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the browser's font has it
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = file.getvalue()
    box = re.search(r'viewBox="[^"]*"', text)
    text = text[text.index(">", text.index("<svg")) + 1 :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r" font-family: [^;]*;", "", re.sub(r'<g id="[^"]*"', "<g", text))
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    text = "\n".join(line.rstrip() for line in text.splitlines())  # git and editors complain of blanks at line ends
    return f'<svg {box[0] if box else ""} role="img" aria-label="{escape(name)}">{text}'
