"""``make bench``: every contender at every kind of work, each in its own process, in turn; tables, raw numbers, a plot."""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from benchmarks.environment import environment
from benchmarks.plan import WORKS, Work
from benchmarks.report import markdown, plot, summary
from fewshot.files import write_json

ROOT = Path(__file__).parents[1]


def measure(contender: str, work: Work, setting: str) -> dict[str, Any]:
    """Runs one contender; what it could not do is recorded, not hidden."""
    about = [contender, work.does, setting, str(work.count(setting))]
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.contender", *about]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        said = done.stderr.strip().splitlines()
        return {"error": said[-1] if said else f"exit code {done.returncode}"}
    return found


def measure_all(name: str, work: Work, repeats: int) -> Iterator[dict[str, dict[str, list[dict[str, Any]]]]]:
    """Setting -> contender -> repeats, after each round of all contenders in all settings.

    All contenders take a turn before any takes the next: noise meets them alike.
    """
    rounds, turns = min(repeats, work.repeats), list(product(work.settings, work.contenders))
    raw: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for number, (turn, (setting, contender)) in product(range(rounds), enumerate(turns, start=1)):
        print(
            f"{name}, {number * len(turns) + turn} of {rounds * len(turns)}: {setting}, {contender}",
            file=sys.stderr,
            flush=True,
        )
        raw.setdefault(setting, {}).setdefault(contender, []).append(measure(contender, work, setting))
        if turn == len(turns):
            yield raw


def main() -> None:
    """Measures, prints, and writes ``benchmarks/results/<machine>.{json,md,png}``; work left out keeps its figures.

    The raw numbers are written after each round of contenders, so that an interruption loses one round at the most.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--repeats", type=int, default=5, help="processes of each contender, at most")
    asked = parser.parse_args()
    about = environment()
    name = about["gpu"] or f"cpu_{about['cores']}_cores"
    path = ROOT / "benchmarks/results" / f"{name.replace(' ', '_')}.json"
    path.parent.mkdir(exist_ok=True)
    known: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"environment": {}, "raw": {}}
    for work in asked.work:
        for raw in measure_all(work, WORKS[work], asked.repeats):
            known["raw"][work], known["environment"][work] = raw, about
            known["summary"] = summary(known["raw"])
            write_json(path, known)
    rows = known["summary"]
    text = markdown(rows, known["environment"])
    path.with_suffix(".md").write_text(text)
    plot(rows, path.with_suffix(".png"))
    Console().print(Markdown(text))
    print(f"Raw numbers: {path}")


if __name__ == "__main__":
    main()
