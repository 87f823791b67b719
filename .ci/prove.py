"""Runs every test of docs/reliability.md and prints its table with PASS or FAIL; exit code 1 if any row fails."""

import re
import shlex
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| (?P<promise>.+?) \| `(?P<test>tests/[^`]+)` \|$", re.MULTILINE)


@dataclass
class Outcome:
    """What the tests of a row came to."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        """PASS where at least one case passed and none failed."""
        return "PASS" if self.passed and not self.failed else "FAIL"


def prove(test: str) -> Outcome:
    """Runs the tests of a row."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-n", "auto", f"--junit-xml={report}", *shlex.split(test)]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
        cases = list(ElementTree.parse(report).iter("testcase")) if report.is_file() else []  # noqa: S314  our own
    outcome = Outcome(seconds=sum(float(case.get("time", 0)) for case in cases))
    for case in cases:
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            outcome.failed += 1
        elif "skipped" in kinds:
            outcome.skipped += 1
        else:
            outcome.passed += 1
    return outcome


def main() -> int:
    """Proves row by row."""
    console = Console()
    console.width = max(console.width, 140)
    table = Table("", "promise", "cases", "seconds")
    outcomes = []
    for row in ROW.finditer((ROOT / "docs/reliability.md").read_text("utf-8")):
        outcome = prove(row["test"])
        outcomes.append(outcome)
        cases = f"{outcome.passed} of {outcome.passed + outcome.failed}" + (
            f", {outcome.skipped} skipped" if outcome.skipped else ""
        )
        console.print(f"{outcome.verdict}  {row['promise']}  ({cases})")
        table.add_row(outcome.verdict, row["promise"], cases, f"{outcome.seconds:.1f}")
    console.print(table)
    failed = sum(outcome.verdict == "FAIL" for outcome in outcomes)
    console.print(f"{len(outcomes) - failed} of {len(outcomes)} promises hold, {sum(o.passed for o in outcomes)} cases passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
