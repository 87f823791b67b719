"""From raw repeats to a table and a plot."""

from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.plan import OURS, WORKS

Raw = dict[str, dict[str, dict[str, list[dict[str, Any]]]]]
"""Work -> setting -> contender -> what its processes printed."""


def summary(raw: Raw) -> list[dict[str, Any]]:
    """A row a work, setting and contender: medians over repeats of medians within, and ratios to learn2learn."""
    rows = []
    for work, settings in raw.items():
        for setting, contenders in settings.items():
            base = _medians(work, setting, contenders.get(WORKS[work].reference, []))
            for contender, repeats in contenders.items():
                row: dict[str, Any] = {"work": work, "setting": setting, "contender": contender}
                found = _medians(work, setting, repeats)
                if found is None:
                    row["error"] = repeats[0]["error"]
                else:
                    row |= {"repeats": len(repeats), "ms": 1000 * found[0], "MiB": found[1] / 2**20}
                if found and base:
                    row |= {"speed": base[0] / found[0], "memory": found[1] / base[1]}
                rows.append(row)
    return rows


def _medians(work: str, setting: str, repeats: list[dict[str, Any]]) -> tuple[float, float] | None:
    """Seconds, and bytes above what was resident before."""
    whole = [found for found in repeats if "error" not in found]
    if not whole:
        return None
    return (
        median(WORKS[work].seconds(setting, found) for found in whole),
        median(found["memory"]["peak"] - found["memory"]["before"] for found in whole),
    )


def table(rows: list[dict[str, Any]], work: str) -> str:
    """One kind of work in Markdown."""
    lines = [
        f"| setting | contender | ms a {WORKS[work].of} | times learn2learn's speed | MiB above start | times its memory |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row["work"] == work:
            cells = [f"failed: {row['error']}"] if "error" in row else [f"{row['ms']:.3g}"]
            cells += [
                f"{row[key]:.2f}" if key == "speed" else f"{row[key]:.3g}" for key in ("speed", "MiB", "memory") if key in row
            ]
            lines.append("| " + " | ".join([row["setting"], row["contender"], *cells, *[""] * (4 - len(cells))]) + " |")
    return "\n".join(lines) + "\n"


def markdown(rows: list[dict[str, Any]], environments: dict[str, dict[str, Any]]) -> str:
    """All kinds of work that were measured, each with its machine and day."""
    works = [work for work in WORKS if any(row["work"] == work for row in rows)]
    return "\n".join(f"## {work.capitalize()}\n\n{machine(environments[work])}\n\n{table(rows, work)}" for work in works)


def machine(about: dict[str, Any]) -> str:
    """What a kind of work was measured on, and when."""
    return f"{about['gpu'] or about['processor']}, {about['cores']} cores, {about['time']}"


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Speed relative to learn2learn, setting by setting."""
    from matplotlib.figure import Figure

    shown = [row for row in rows if row["contender"] == OURS and "speed" in row]
    figure = Figure(figsize=(7, 0.3 * len(shown) + 1), layout="constrained")
    axes = figure.subplots()
    axes.barh([f"{row['work']}: {row['setting']}" for row in shown], [row["speed"] for row in shown])
    axes.axvline(1, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("speed, learn2learn = 1")
    figure.savefig(path, dpi=120)
