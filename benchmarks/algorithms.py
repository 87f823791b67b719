"""A table of algorithms trained on one experiment: ``python -m benchmarks.algorithms FOLDER results/omniglot_5w1s.md``.

Reads what the runs below FOLDER have left, ``results.json`` and ``test_tasks.csv``, and nothing else.
``make compare-algorithms`` trains them first.
"""

import math
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fewshot.errors import UserError
from fewshot.evaluation.comparison import EvaluatedRun, Spread, evaluated_run, over_seeds
from fewshot.evaluation.differences import Difference, difference
from fewshot.evaluation.results import read_results
from fewshot.files import written_whole

BASELINE = "MAML"
PUBLISHED = {
    "omniglot": {
        "MAML": "98.7 ± 0.4 (Finn et al. 2017)",
        "FOMAML": "98.3 (Nichol et al. 2018)",
        "MAML++": "99.47 (Antoniou et al. 2019)",
        "iMAML": "99.16 ± 0.35 (Rajeswaran et al. 2019, gradient descent)",
        "Reptile": "97.68 (Nichol et al. 2018, transductive)",
        "ProtoNet": "98.8 (Snell et al. 2017)",
        "RelationNet": "99.6 ± 0.2 (Sung et al. 2018)",
    },
}
"""Dataset -> model -> accuracy in 5-way 1-shot tasks, percent; after the papers' own budgets, which are far larger."""
HEADER = (
    "algorithm", "test accuracy, %", f"difference to {BASELINE}, points", "steps", "tasks", "images", "tasks/s", "images/s",
    "training, s", "peak memory, MiB", "query forward, M multiply-adds", "adapts", "transductive", "published, %",
)  # fmt: skip

OF_TRAINING = ("steps", "tasks", "images", "images/s")
"""Columns that are left out where all models were trained on the same tasks."""
DIFFERENT_TRAINING = (
    "Each model is trained by its own recipe for the same number of outer steps; a task is as large as that recipe has it, so "
    "that images tell how much was seen."
)

Run = tuple[dict[str, Any], EvaluatedRun]
"""The results of a run, and its test task by task."""


def runs_below(folder: Path) -> dict[str, list[Run]]:
    """Model -> its complete runs, one a seed, of all below a folder; controls, which learn nothing, are none.

    Raises:
        UserError: there is none of the baseline, or the runs were tested on different tasks.
    """
    runs: dict[str, list[Run]] = {}
    for path in sorted(folder.rglob("results.json")):
        results = read_results(path)
        tested = None if results["protocol"].get("control") else evaluated_run(path.parent, results)
        if tested is not None:
            runs.setdefault(str(results["protocol"]["model"]), []).append((results, tested))
    if BASELINE not in runs:
        raise UserError(f"{folder} has no tested run of {BASELINE}; choose the folder of a sweep that has one")
    if len({tested.tasks for group in runs.values() for _, tested in group}) > 1:
        raise UserError(
            f"the runs in {folder} were tested on different tasks, so that they cannot be paired; keep one experiment"
        )
    return runs


def table(runs: dict[str, list[Run]]) -> list[tuple[str, ...]]:
    """A row a model, the most accurate first."""
    baseline = [tested for _, tested in runs[BASELINE]]
    accuracy = {model: over_seeds([tested for _, tested in group]) for model, group in runs.items()}
    rows = []
    for model in sorted(runs, key=lambda model: -accuracy[model].mean):
        results, _ = runs[model][0]
        protocol, costs = results["protocol"], [results["cost"] for results, _ in runs[model]]
        tested = [tested for _, tested in runs[model]]
        train = protocol["train"]
        images = train["ways"] * (train["shots"] + train["queries"])
        tasks = train["steps"] * train["meta_batch_size"]
        seconds = _mean([cost["train_seconds"] for cost in costs])
        rows.append(
            (
                model,
                _percent(accuracy[model]),
                "" if model == BASELINE else _percent(difference(tested, baseline), sign="+"),
                f"{train['steps']:,}",
                f"{tasks:,}",
                f"{tasks * images:,}",
                f"{tasks / seconds:,.0f}" if seconds else "",
                f"{tasks * images / seconds:,.0f}" if seconds else "",
                f"{seconds:,.0f}",
                f"{max(cost['peak_rss_bytes'] for cost in costs) / 2**20:,.0f}",
                f"{protocol['forward_multiply_adds'] / 1e6:.1f}",
                f"`{' '.join(protocol['adapt'])}`" if protocol["adapt"] else "nothing",
                "yes" if protocol["transductive"] else "no",
                PUBLISHED.get(str(protocol["data"]).split("-")[0], {}).get(model, "") if _is_5w1s(protocol) else "",
            )
        )
    return rows


PAGE = """\
# Algorithms on {experiment}

{text}

```text
make compare-algorithms EXPERIMENT={experiment} STEPS={steps} OVERRIDES="seed={seeds}"
```

Measured on {hardware}; commit {commit}; torch {torch}.

{table}
"""
TEXT = """\
{ways}-way {shots}-shot tasks of {data} with {queries} queries a class; {backbone}; {seeds}. Every model was tested on the same
{tasks} tasks of unseen classes, with the checkpoint that validated best.

Accuracy: mean over tasks ± half its 95 % interval over tasks (Student's t). Difference: task by task, with its own interval.
{training} Training leaves validation out. A model is transductive if a query's answer depends on the other queries.
Memory: peak resident memory of the process, data and libraries included. Published accuracies come from the papers' own
protocols and budgets, which are far larger.
"""


def page(runs: dict[str, list[Run]], experiment: str) -> str:
    """The table with all that its figures depend on, in Markdown."""
    results, _ = runs[BASELINE][0]
    protocol, provenance = results["protocol"], results["provenance"]
    machine = provenance["machine"]
    seeds = sorted({tested.seed for group in runs.values() for _, tested in group})
    same = _same_training(runs)
    compared = table(runs)
    shown = [any(column) and not (same and name in OF_TRAINING) for name, *column in zip(HEADER, *compared, strict=True)]
    cells = [HEADER, ("---", *["---:"] * (len(HEADER) - 4), "---", "---", "---"), *compared]
    rows = [[cell for cell, show in zip(row, shown, strict=True) if show] for row in cells]
    text = TEXT.format(
        **{key: protocol[key] for key in ("ways", "shots", "data", "queries", "backbone")},
        seeds=f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}",
        tasks=results["test"]["tasks"],
        training=same or DIFFERENT_TRAINING,
    )
    return PAGE.format(
        experiment=experiment,
        steps=protocol["train"]["steps"],
        seeds=",".join(map(str, seeds)),
        text="\n\n".join(textwrap.fill(part, 120) for part in text.split("\n\n")),
        hardware=", ".join([machine["processor"], f"threads: {machine['threads']}", *machine["accelerators"]]),
        commit=provenance["git_commit"],
        torch=provenance["packages"]["torch"],
        table="\n".join(f"| {' | '.join(row)} |" for row in rows),
    )


def _same_training(runs: dict[str, list[Run]]) -> str | None:
    """What tasks all models were trained on, where it was the same for all."""
    trained = [results["protocol"]["train"] for group in runs.values() for results, _ in group]
    if any(train != trained[0] for train in trained):
        return None
    train = trained[0]
    tasks, images = train["steps"] * train["meta_batch_size"], train["ways"] * (train["shots"] + train["queries"])
    shots = f"{train['shots']} shot{'s' if train['shots'] > 1 else ''}"
    return (
        "Each model is trained by its own recipe but for the tasks, which are the same for all: "
        f"{train['steps']:,} outer steps of {train['meta_batch_size']} tasks with {train['ways']} ways, {shots} and "
        f"{train['queries']} queries a class: {tasks:,} tasks and {tasks * images:,} images."
    )


def _is_5w1s(protocol: dict[str, Any]) -> bool:
    return (protocol["ways"], protocol["shots"]) == (5, 1)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _percent(spread: Spread | Difference | None, sign: str = "") -> str:
    if spread is None:
        return ""
    width = "" if math.isnan(spread.ci95_tasks) else f" ± {100 * spread.ci95_tasks:.2f}"
    return f"{100 * spread.mean:{sign}.2f}{width}"


def main(folder: str, page_path: str) -> None:
    """Writes the page.

    Args:
        folder: holds the runs.
        page_path: a Markdown file, named after the experiment.
    """
    path = Path(page_path)
    path.parent.mkdir(exist_ok=True)
    with written_whole(path) as file:
        file.write(page(runs_below(Path(folder)), path.stem).encode())


if __name__ == "__main__":
    try:
        main(*sys.argv[1:3])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
