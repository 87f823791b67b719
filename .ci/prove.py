"""Runs every test, the long proofs too, and prints the table of docs/reliability.md with PASS or FAIL.

Arguments go to pytest. Exit code 1 if any test fails, or if a promise has none that passed.
"""

import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| (?P<promise>.+?) \| `(?P<test>tests/[^`]+)` \|$", re.MULTILINE)


def run(arguments: list[str]) -> tuple[bool, list[ElementTree.Element]]:
    """Runs the tests once: whether none failed, and what became of each case."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-n", "auto", "--durations=20", f"--junit-xml={report}", *arguments]
        done = subprocess.run(command, cwd=ROOT, check=False)
        cases = ElementTree.parse(report).iter("testcase")  # noqa: S314  written by pytest just now
        return done.returncode == 0, list(cases)


def belongs(case: ElementTree.Element, test: str) -> bool:
    """Whether a case is one of those that a row names: a folder, a file, or a function."""
    path, _, function = test.partition("::")
    module = path.removesuffix(".py").replace("/", ".")
    within = f"{case.get('classname')}.".startswith(f"{module}.")
    return within and (not function or str(case.get("name")).split("[")[0] == function)


def main() -> int:
    """Runs everything, then prints row by row."""
    rows = list(ROW.finditer((ROOT / "docs/reliability.md").read_text("utf-8")))
    green, cases = run(sys.argv[1:])
    console = Console()
    console.width = max(console.width, 140)
    table = Table("", "promise", "cases", "seconds")
    kept = 0
    for row in rows:
        mine = [case for case in cases if belongs(case, row["test"])]
        failed = sum(case.find("failure") is not None or case.find("error") is not None for case in mine)
        skipped = sum(case.find("skipped") is not None for case in mine)
        passed = len(mine) - failed - skipped
        holds = passed > 0 and not failed
        kept += holds
        figure = f"{passed} of {passed + failed}" + (f", {skipped} skipped" if skipped else "")
        seconds = sum(float(case.get("time", 0)) for case in mine)
        table.add_row("PASS" if holds else "FAIL", row["promise"], figure, f"{seconds:.1f}")
    console.print(table)
    console.print(f"{kept} of {len(rows)} promises hold")
    return 0 if green and kept == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
