"""``python -m fewshot.report RUN_OR_SWEEP ... --out report.html``: what came of runs, for readers.

Reads what runs have left and, for pictures of their hardest tasks, the data that they prepared. ``python -m fewshot.report card
RUN`` prints the protocol of a run in three lines.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from fewshot.errors import UserError
from fewshot.evaluation.card import card_lines
from fewshot.evaluation.results import read_results
from fewshot.files import written_whole
from fewshot.report.configs import Config, read_configs
from fewshot.report.standings import cells, remark, standings
from fewshot.report.tables import markdown, tex
from fewshot.runtime.cli import mistakes_explained, tolerate_any_console
from fewshot.sweep.job import RESULTS
from fewshot.sweep.report import counted

TABLES = {"md": markdown, "tex": tex}


def report(arguments: Sequence[str]) -> None:
    """One HTML file that needs no network, or a table for a paper."""
    options = report_parser().parse_args(arguments)
    if options.out is not None and (options.out.is_dir() or not options.out.parent.is_dir()):
        raise UserError(f"--out={options.out} is no file that can be written; name one in a folder that is there")
    if options.hardest < 0:
        raise UserError(f"--hardest={options.hardest} must be 0 or more")
    configs, incomplete = read_configs(options.folders)
    if options.format == "html":
        text = page_of(configs, options.title, incomplete, options.hardest)
    else:
        found = standings(configs)
        text = TABLES[options.format](*cells(found), remark(found))
    if options.out is None:
        print(text, end="")
        return
    with written_whole(options.out) as file:
        file.write(text.encode())
    print(options.out)


def page_of(configs: Sequence[Config], title: str, incomplete: int, hardest: int) -> str:
    """The HTML file.

    Args:
        configs: that it is of.
        title: of the page.
        incomplete: runs that are left out.
        hardest: test tasks of a config that are shown; 0 opens no data.
    """
    from fewshot.report import curves, sections  # they draw: no other format needs that
    from fewshot.report.html import page

    number = sum(len(config.runs) for config in configs)
    lead = f"{counted(number, 'run')} of {counted(len(configs), 'config')}"
    lead += f"; {counted(incomplete, 'run')} not complete, and not shown" if incomplete else ""
    command = shlex.join(["python", "-m", "fewshot.report", *sys.argv[1:]])
    parts = [
        sections.results(configs),
        curves.curves(configs),
        sections.mistakes(configs),
        sections.hardest(configs, hardest) if hardest else "",
        sections.controls(configs),
        sections.runs(configs),
        sections.protocol(configs),
        sections.provenance(configs),
    ]
    return page(title, f"{lead}. Written by: {command}", parts)


def card(arguments: Sequence[str]) -> None:
    """The protocol of a run, in three lines."""
    parser = argparse.ArgumentParser(prog="python -m fewshot.report card", description=card.__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run")
    folder = parser.parse_args(arguments).run
    try:
        results = read_results(folder / RESULTS)
    except OSError as error:
        raise UserError(f"{folder} has no {RESULTS}; choose a complete run below logs/train/runs") from error
    print(*card_lines(results), sep="\n")


def report_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fewshot.report",
        description=f"{report.__doc__} `python -m fewshot.report card RUN` prints the protocol of a run in three lines.",
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="RUN_OR_SWEEP", help="folders of runs, or of sweeps")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write; standard output without it")
    parser.add_argument("--format", choices=("html", *TABLES), default="html", help="html, md (Markdown) or tex (LaTeX); html")
    parser.add_argument("--title", default="Few-shot learning: report", help="of the page")
    parser.add_argument("--hardest", type=int, default=3, metavar="N", help="test tasks of a config that are shown; 3")
    return parser


if __name__ == "__main__":
    tolerate_any_console()
    with mistakes_explained("train"):
        card(sys.argv[2:]) if sys.argv[1:2] == ["card"] else report(sys.argv[1:])
