"""What runs came to on their test tasks, and means over seeds."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fewshot.errors import UserError
from fewshot.evaluation.intervals import mean_interval
from fewshot.evaluation.results import deciding_score

TASK_LIST = ("data", "splits_sha256", "ways", "shots", "queries", "within_group", "within", "apart", "eval_seed")
"""Of a protocol, what decides which test tasks there are; how many of them were taken does not."""


@dataclass(frozen=True)
class EvaluatedRun:
    """What one run came to on its test tasks.

    Attributes:
        seed: of the run.
        score: name of the score that decides.
        figures: of that score, ``(tasks,)`` after the last adaptation step, in the order of the tasks' numbers; NaN where it is
            not finite, as an error of a model that has diverged.
        tasks: names the list of tasks, of which a run takes the first: the same for runs tested on the same tasks.
        test_to_train: classes (or other units of the split) that are tested, for one that is trained on; NaN where not known.
    """

    seed: int
    score: str
    figures: npt.NDArray[np.float64]
    tasks: str
    test_to_train: float = math.nan

    @property
    def is_finite(self) -> bool:
        """Whether each task has a figure, so that there is a mean."""
        return bool(np.isfinite(self.figures).all())


@dataclass(frozen=True)
class Spread:
    """A mean over seeds and tasks, with the half widths of two 95 % intervals that answer two questions.

    Attributes:
        mean: over all seeds and tasks.
        ci95_tasks: how far other tasks would move it, for these trained models: Student's t over the tasks, each averaged
            over seeds first. NaN for one task.
        ci95_seeds: how far other seeds would move it, on these tasks: Student's t over the seeds, each averaged over tasks
            first. NaN for one seed.
        seeds: how many.
    """

    mean: float
    ci95_tasks: float
    ci95_seeds: float
    seeds: int


def evaluated_run(folder: Path, results: dict[str, Any]) -> EvaluatedRun | None:
    """The test of the run in a folder; None for a run without one.

    Args:
        folder: of the run.
        results: the content of its ``results.json``.

    Raises:
        UserError: its file of tasks is missing or broken.
    """
    test, protocol = results["test"], results["protocol"]
    if test is None:
        return None
    path, decides = folder / str(test.get("per_task_file")), deciding_score(results)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = {int(line["task"]): line for line in csv.DictReader(file)}
        column = f"{decides}_{len(test[f'{decides}_per_step']) - 1}"
        figures = np.array([float(lines[task][column]) for task in sorted(lines)])
        figures[~np.isfinite(figures)] = math.nan
        diverged = math.isnan(results.get("metrics", {}).get(f"test/{decides}", 0))
        whole = len(figures) == test["tasks"] and (diverged or bool(np.isfinite(figures).all()))
    except (OSError, ValueError, TypeError, KeyError, csv.Error):
        whole = False
    if not whole:
        raise UserError(f"{path} does not hold the tasks that results.json speaks of; delete results.json to test again")
    identity = {"score": decides, **{key: protocol.get(key) for key in TASK_LIST}}
    identity["splits_sha256"] = (protocol.get("splits_sha256") or {}).get("test")
    identity["dealt"] = _dealt(protocol)
    identity["images"] = (results["provenance"].get("data_sha256") or {}).get("test")
    of_users = protocol.get("ways") == 1  # who are tested once each, which older runs do not say
    identity["partition"] = protocol.get("replacement") is of_users
    units = protocol.get("splits_units") or {}
    ratio = units["test"] / units["train"] if units.get("train") and units.get("test") else math.nan
    return EvaluatedRun(int(protocol["seed"]), decides, figures, json.dumps(identity, sort_keys=True), ratio)


def _dealt(protocol: dict[str, Any]) -> dict[str, Any] | None:
    """The rule that deals rows out, where the names of classes do not say which rows a part has: patients, new items."""
    rule = (protocol.get("split_rules") or {}).get("test") or protocol.get("split_rule") or {}
    return rule if rule.get("by", "class") != "class" or rule.get("rule") == "cold_start" else None


def spread(figures: npt.NDArray[np.floating]) -> Spread:
    """The mean of ``(seeds, tasks)`` figures, and how far it can be trusted."""
    over_tasks, over_seeds = mean_interval(figures.mean(axis=0)), mean_interval(figures.mean(axis=1))
    return Spread(over_tasks.mean, over_tasks.ci95, over_seeds.ci95, len(figures))


def over_seeds(runs: Sequence[EvaluatedRun]) -> Spread:
    """The score of runs that differ by their seed alone.

    Raises:
        ValueError: they were tested on different tasks.
    """
    if len({(run.tasks, len(run.figures)) for run in runs}) != 1:
        raise ValueError("runs of one config were tested on different tasks")
    return spread(np.stack([run.figures for run in runs]))
