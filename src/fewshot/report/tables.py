"""Cells, and tables of them in Markdown and LaTeX, for a paper."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

NOTHING = "–"
TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": r"$-$", "–": "--"}
TEX |= {letter: rf"\{letter}" for letter in "&%$#_{}"}
"""What stands for letters that LaTeX reads as something else."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: that is shown.
        value: what it is sorted by, where it is a number.
        bold: whether it stands out.
    """

    text: str
    value: float | None = None
    bold: bool = False


def figure_cell(value: float, digits: str) -> Cell:
    """A number in digits such as ``,.0f``; a dash where there is none."""
    return Cell(NOTHING) if math.isnan(value) else Cell(format(value, digits), value)


def markdown(header: Sequence[str], rows: Sequence[Sequence[Cell]], remark: str) -> str:
    """A table for a README, with a remark below."""

    def text(cell: Cell) -> str:
        shown = cell.text.replace("|", r"\|").replace("<", "&lt;")
        return f"**{shown}**" if cell.bold else shown

    lines = [list(header), ["---", *["---:"] * (len(header) - 1)], *([text(cell) for cell in row] for row in rows)]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", remark, ""])


def tex(header: Sequence[str], rows: Sequence[Sequence[Cell]], remark: str) -> str:
    """A table for a paper, with a remark above as a comment."""

    def text(cell: Cell) -> str:
        shown = "".join(TEX.get(letter, letter) for letter in cell.text)
        return rf"\textbf{{{shown}}}" if cell.bold else shown

    lines = [[Cell(name) for name in header], *rows]
    head, *body = (" & ".join(map(text, line)) + r" \\" for line in lines)
    begin = rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}"
    comment = "% " + remark
    return "\n".join(
        [
            comment,
            r"% \usepackage{booktabs}",
            begin,
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )
