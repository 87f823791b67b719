"""``results.json``: what a run found, how, at what cost, and from what."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot.errors import UserError
from fewshot.evaluation.files import write_json, written_whole
from fewshot.evaluation.intervals import CI_METHOD

if TYPE_CHECKING:  # it imports torch, without which results can be read
    from fewshot.evaluation.record import TaskScores

SCHEMA = 1
FIGURES = ("acc", "acc_ci95", "acc_before", "loss")
"""Of a split, in `metrics_of`."""


def metrics_of(split: str, scores: TaskScores) -> dict[str, float]:
    """The figures of a split after adaptation, named as in ``results.json``; accuracies are fractions.

    Also the accuracy before adaptation, where a model takes steps; and the number of tasks whose outputs are not finite, where
    there are any.
    """
    before = {f"{split}/acc_before": float(scores.accuracy[:, 0].mean())} if scores.accuracy.shape[1] > 1 else {}
    return {
        f"{split}/acc": scores.final_accuracy.mean,
        f"{split}/acc_ci95": scores.final_accuracy.ci95,
        **before,
        f"{split}/loss": scores.final_loss.mean,
        **({f"{split}/nonfinite_tasks": float(scores.nonfinite_tasks)} if scores.nonfinite_tasks else {}),
    }


def test_section(scores: TaskScores, per_task_file: str) -> dict[str, Any]:
    """The section ``test``: accuracy before adaptation and after each step, and where each task's figures are."""
    per_step = scores.accuracy_per_step
    return {
        "tasks": len(scores.index),
        "nonfinite_tasks": scores.nonfinite_tasks,
        "acc_per_step": [interval.mean for interval in per_step],
        "acc_per_step_ci95": [interval.ci95 for interval in per_step],
        "ci_method": CI_METHOD,
        "per_task_file": per_task_file,
    }


def write_per_task(path: Path, scores: TaskScores) -> None:
    """A CSV line a task: its number, and accuracy and loss before adaptation and after each step."""
    steps = range(scores.accuracy.shape[1])
    lines = [",".join(["task", *(f"acc_{step}" for step in steps), *(f"loss_{step}" for step in steps)])]
    for index, accuracy, loss in zip(scores.index, scores.accuracy, scores.loss, strict=True):
        lines.append(",".join([str(index), *(f"{value:.9g}" for value in (*accuracy, *loss))]))
    with written_whole(path) as file:
        file.write(("\n".join(lines) + "\n").encode())


def write_results(path: Path, **sections: Any) -> None:
    """Writes ``results.json``: ``status``, ``cut_short``, ``metrics``, ``test``, ``protocol``, ``cost``, ``provenance``."""
    write_json(path, {"schema": SCHEMA, **sections})


def read_results(path: Path) -> dict[str, Any]:
    """The content of a ``results.json``, its nulls among the metrics as NaN.

    Raises:
        FileNotFoundError: there is none.
        UserError: it is no such file.
    """
    try:
        results: Any = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error})") from error
    if not _are_results(results):
        raise UserError(f"{path} does not hold the results of a run (schema {SCHEMA})")
    results["metrics"] = {name: math.nan if value is None else value for name, value in results["metrics"].items()}
    return dict(results)


def _are_results(results: Any) -> bool:
    """Whether it has the sections of schema 1, each of its kind."""
    if not isinstance(results, dict) or results.get("schema") != SCHEMA:
        return False
    sections = ("metrics", "protocol", "cost", "provenance")
    if not all(isinstance(results.get(section), dict) for section in sections) or "test" not in results:
        return False
    test, training = results["test"], results["protocol"].get("train")
    numbers = all(value is None or type(value) in (int, float) for value in results["metrics"].values())
    return numbers and isinstance(training, dict) and (test is None or isinstance(test, dict))
