"""``results.json``: what a run found, how, at what cost, and from what."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot.errors import UserError
from fewshot.evaluation.intervals import CI_METHOD, mean_interval
from fewshot.files import write_json, written_whole

if TYPE_CHECKING:  # it imports torch, without which results can be read
    from fewshot.evaluation.task_scores import TaskScores

SCHEMA = 2
READABLE = (1, 2)
"""Schema 1 knows classification alone, by accuracy; what it has is named as in schema 2."""


def metrics_of(split: str, scores: TaskScores) -> dict[str, float]:
    """The figures of a split after adaptation, named as in ``results.json``; accuracies are fractions.

    The score that decides comes first. Also what it was before adaptation, where a model takes steps; and the number of tasks
    whose outputs are not finite, where there are any.
    """
    decides, final = scores.monitor, {name: values[:, -1] for name, values in scores.steps.items()} | dict(scores.last)
    loss = float(final.pop("loss").mean())
    found: dict[str, float] = {}
    for name in sorted(final, key=lambda name: name != decides):
        interval = mean_interval(final[name])
        found |= {f"{split}/{name}": interval.mean, f"{split}/{name}_ci95": interval.ci95}
        if name == decides and scores.deciding.shape[1] > 1:
            found[f"{split}/{name}_before"] = float(scores.deciding[:, 0].mean())
    return {
        **found,
        **{f"{split}/{name}": value for name, value in scores.pooled.items()},
        f"{split}/loss": loss,
        **({f"{split}/nonfinite_tasks": float(scores.nonfinite_tasks)} if scores.nonfinite_tasks else {}),
    }


def test_section(scores: TaskScores, per_task_file: str) -> dict[str, Any]:
    """The section ``test``: each score before adaptation and after each step, and where each task's figures are."""
    per_step = {name: [mean_interval(column) for column in values.T] for name, values in scores.steps.items() if name != "loss"}
    return {
        "tasks": len(scores.index),
        "nonfinite_tasks": scores.nonfinite_tasks,
        **{f"{name}_per_step": [interval.mean for interval in intervals] for name, intervals in per_step.items()},
        **{f"{name}_per_step_ci95": [interval.ci95 for interval in intervals] for name, intervals in per_step.items()},
        "ci_method": CI_METHOD,
        "per_task_file": per_task_file,
    }


def deciding_score(results: dict[str, Any]) -> str:
    """Name of the score that decides, of the content of a ``results.json`` of any schema."""
    return str((results["protocol"].get("objective") or {}).get("monitor", "acc"))


def write_per_task(path: Path, scores: TaskScores) -> None:
    """A CSV line a task: its number, each score before adaptation and after each step, then those after the last step alone."""
    columns: dict[str, Any] = {"task": scores.index.tolist()}
    for name, values in scores.steps.items():
        columns |= {f"{name}_{step}": values[:, step] for step in range(values.shape[1])}
    columns |= scores.last
    lines = [",".join(columns)]
    for index, *figures in zip(*columns.values(), strict=True):
        lines.append(",".join([str(index), *(f"{value:.9g}" for value in figures)]))
    with written_whole(path) as file:
        file.write(("\n".join(lines) + "\n").encode())


def write_results(path: Path, **sections: Any) -> None:
    """Writes ``results.json``.

    Args:
        path: of the file.
        sections: ``status``, ``cut_short``, ``name``, ``tags``, ``metrics``, ``test``, ``protocol``, ``cost``, ``provenance``.
    """
    write_json(path, {"schema": SCHEMA, **sections})


def read_results(path: Path) -> dict[str, Any]:
    """The content of a ``results.json``; null in the place of a figure, which JSON has for what is not finite, as NaN.

    Raises:
        FileNotFoundError: there is none.
        UserError: it is no such file.
    """
    try:
        results: Any = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}); delete it to test the run again") from error
    if not _are_results(results):
        raise UserError(
            f"{path} does not hold the results of a run (schema {SCHEMA} or older); delete it to test the run again"
        )
    results["metrics"] = _with_nan(results["metrics"])
    for control in (results.get("controls") or {}).values():
        control["metrics"] = _with_nan(control["metrics"])
    for figures in (results["test"], results.get("val")):
        for name, values in (figures or {}).items():
            if isinstance(values, list):
                figures[name] = [math.nan if value is None else value for value in values]
    return dict(results)


def _with_nan(metrics: dict[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in metrics.items()}


def _are_results(results: Any) -> bool:
    """Whether it has the sections of a run, each of its kind."""
    if not isinstance(results, dict) or results.get("schema") not in READABLE:
        return False
    sections = ("metrics", "protocol", "cost", "provenance")
    if not all(isinstance(results.get(section), dict) for section in sections) or "test" not in results:
        return False
    test, training = results["test"], results["protocol"].get("train")
    controls = results.get("controls") or {}
    if not isinstance(controls, dict) or not all(isinstance(control, dict) for control in controls.values()):
        return False
    numbers = all(map(_are_metrics, (results["metrics"], *(control.get("metrics") for control in controls.values()))))
    parts = all(part is None or isinstance(part, dict) for part in (test, results.get("val")))
    return numbers and isinstance(training, dict) and parts


def _are_metrics(node: Any) -> bool:
    return isinstance(node, dict) and all(value is None or type(value) in (int, float) for value in node.values())
