"""``make bench``: every contender in every setting, each in its own process, in turn; one table, raw numbers, a plot."""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.settings import SETTINGS, SWEEP

ROOT = Path(__file__).parents[1]
REFERENCE = "learn2learn_example"
CONTENDERS = ("fewshot_run", REFERENCE, "fewshot_by_steps", "bare", "fewshot_learn2learn", "higher_example", "torchopt_example")
STEPS = {"omniglot": 12, "mini": 6}
"""Training steps in a process; the first two are not counted."""


def measure(contender: str, setting: str) -> dict[str, Any]:
    """Runs one contender; what it could not do is recorded, not hidden."""
    steps = STEPS["mini" if setting.startswith("mini") else "omniglot"]
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.contender", contender, setting, str(steps)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure_all(asked: argparse.Namespace) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Setting -> contender -> repeats. All contenders take a turn before any takes the next: noise meets them alike."""
    plan = list(product(range(asked.repeats), asked.settings, asked.contenders))
    if asked.sweep:
        plan += product(range(2), SWEEP, CONTENDERS[:2])
    raw: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for number, (repeat, setting, contender) in enumerate(plan, start=1):
        print(f"{number} of {len(plan)}: repeat {repeat + 1}, {setting}, {contender}", file=sys.stderr, flush=True)
        raw.setdefault(setting, {}).setdefault(contender, []).append(measure(contender, setting))
    return raw


def summary(raw: dict[str, dict[str, list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """A row a setting and contender: medians over repeats of medians over steps, and ratios to learn2learn's example."""
    rows = []
    for setting, of_setting in raw.items():
        base = _medians(of_setting[REFERENCE])
        for contender, repeats in of_setting.items():
            found = _medians(repeats)
            row: dict[str, Any] = {"setting": setting, "contender": contender, "error": repeats[0].get("error")}
            if found and base:
                row |= {
                    "ms": 1000 * found[0],
                    "MiB": found[1] / 2**20,
                    "speed": base[0] / found[0],
                    "memory": found[1] / base[1],
                }
            rows.append(row)
    return rows


def _medians(repeats: list[dict[str, Any]]) -> tuple[float, float] | None:
    whole = [repeat for repeat in repeats if "error" not in repeat]
    if not whole:
        return None
    seconds = median(median(repeat["seconds"][2:]) for repeat in whole)
    return seconds, median(repeat["memory"]["peak"] - repeat["memory"]["before"] for repeat in whole)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| setting | contender | ms a training step | times learn2learn's speed | MiB above start | times its memory |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        figures = (
            [f"{row['ms']:.0f}", f"{row['speed']:.2f}", f"{row['MiB']:.0f}", f"{row['memory']:.2f}"] if "ms" in row else []
        )
        cells = figures or [f"failed: {row['error']}", "", "", ""]
        lines.append("| " + " | ".join([row["setting"], row["contender"], *cells]) + " |")
    return "\n".join(lines) + "\n"


def environment() -> dict[str, Any]:
    """Of the machine and what is installed."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    packages = ("torch", "lightning", "learn2learn", "higher", "torchopt")
    return {
        "processor": cpu.partition(":")[2].strip(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "time": time.strftime("%Y-%m-%d"),
    }


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Speed relative to learn2learn's example, setting by setting."""
    from matplotlib.figure import Figure

    shown = [row for row in rows if row["contender"] == "fewshot_run" and "ms" in row]
    figure = Figure(figsize=(7, 0.4 * len(shown) + 1), layout="constrained")
    axes = figure.subplots()
    axes.barh([row["setting"] for row in shown], [row["speed"] for row in shown])
    axes.axvline(1, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel("speed of a training step, learn2learn's example = 1")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measures, prints and writes ``benchmarks/results/cpu_<cores>_cores.{json,md,png}``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS, help=f"with {REFERENCE} among them")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sweep", action=argparse.BooleanOptionalAction, default=True, help="how cost grows with each size")
    asked = parser.parse_args()
    about = environment()
    raw = measure_all(asked)
    rows = summary(raw)
    path = ROOT / "benchmarks/results" / f"cpu_{about['cores']}_cores.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"environment": about, "summary": rows, "raw": raw}, indent=1) + "\n")
    path.with_suffix(".md").write_text(f"{about['processor']}, {about['cores']} cores, {about['time']}\n\n{table(rows)}")
    plot(rows, path.with_suffix(".png"))
    shown = Table("setting", "contender", "ms/step", "speed", "MiB", "memory")
    for row in rows:
        cells = (
            (f"{row[key]:.2f}" for key in ("ms", "speed", "MiB", "memory")) if "ms" in row else (str(row["error"]), "", "", "")
        )
        shown.add_row(row["setting"], row["contender"], *cells)
    Console().print(shown)
    print(f"Raw numbers: {path}")


if __name__ == "__main__":
    main()
