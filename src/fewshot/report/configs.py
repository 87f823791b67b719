"""What a report is of: runs put together by config, over seeds and folds."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fewshot.errors import UserError
from fewshot.evaluation.comparison import EvaluatedRun
from fewshot.evaluation.nested import NestedSpread
from fewshot.evaluation.results import read_results
from fewshot.report.readings import Queries, queries_of
from fewshot.runtime.config_files import COMPOSED
from fewshot.sweep.groups import FOLD_KEYS, Group, configs_of, doubled, groups_of, nested_spread, one_score
from fewshot.sweep.identity import NEUTRAL
from fewshot.sweep.job import RECORD, RESULTS, Job, SingleRun, jobs_in
from fewshot.sweep.labels import short_label, varied

UNTOLD = ("seed=", *FOLD_KEYS, *(f"{key}{sign}" for key in NEUTRAL for sign in ("=", ".")))
"""Beginnings of overrides that tell no config from another."""


@dataclass(frozen=True)
class Run:
    """A complete run: its folder, the content of ``results.json``, and what it was told apart by."""

    folder: Path
    results: dict[str, Any]
    label: str

    @cached_property
    def queries(self) -> Queries | None:
        """Those of its test, where it has classes."""
        return queries_of(self.folder)


@dataclass(frozen=True)
class Config:
    """Runs that differ by seed and fold alone.

    Attributes:
        label: in words that tell it from the others.
        groups: its runs, a group of seeds for each fold; one, where there are no folds.
    """

    label: str
    groups: tuple[Group, ...]

    @cached_property
    def runs(self) -> list[Run]:
        """Fold by fold, seed by seed."""
        found = []
        for job in (job for group in self.groups for job in group.jobs):
            results = read_results(job.folder / RESULTS)
            folds = [each.removeprefix("data.split.") for each in job.record()["overrides"] if each.startswith(FOLD_KEYS)]
            found.append(Run(job.folder, results, ", ".join([*folds, f"seed={results['protocol']['seed']}"])))
        return found

    @property
    def tested(self) -> list[Run]:
        """Those that were tested."""
        return [run for run in self.runs if run.results["test"] is not None]

    @property
    def score(self) -> str:
        """Name of the score that decides."""
        return self.groups[0].score

    @property
    def validated(self) -> float:
        """Mean over folds and seeds on validation tasks."""
        return float(np.mean([group.validated for group in self.groups]))

    @property
    def evaluated(self) -> list[EvaluatedRun]:
        """The tests of its runs, task by task."""
        return [run for group in self.groups for run in group.tested]

    @cached_property
    def spread(self) -> NestedSpread | None:
        """Of the score on test tasks; None where a fold was not tested."""
        return nested_spread(self.groups)


def read_configs(folders: Sequence[Path]) -> tuple[list[Config], int]:
    """The configs of complete runs, the best on validation first, and how many runs are not complete.

    Args:
        folders: of runs, of sweeps, or of folders of runs.

    Raises:
        UserError: one is none, or no run is complete, or they cannot stand in one table.
    """
    jobs: dict[Path, Job] = {}
    for folder in folders:
        for job in _jobs(folder):
            jobs.setdefault(job.folder.resolve(), job)
    groups = groups_of(list(jobs.values()))
    one_score(groups)
    if twice := doubled(groups):
        raise UserError(twice[0])
    found = configs_of(groups)
    configs = [Config(label, tuple(of_config)) for label, of_config in zip(_labels(found), found, strict=True)]
    return configs, sum(job.results() is None for job in jobs.values())


def _jobs(folder: Path) -> Sequence[Job]:
    if (folder / RECORD).is_file():
        return [Job(folder)]
    if (folder / COMPOSED).is_file():
        return [SingleRun(folder)]
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; choose logs/train/sweeps/NAME or one below logs/train/runs")
    return jobs_in(folder)


def _labels(configs: Sequence[Sequence[Group]]) -> list[str]:
    """Of each config: the overrides that tell it from the others; of one alone, its name, else what it is."""
    jobs = [groups[0].jobs[0] for groups in configs]
    overrides = [[each for each in job.record()["overrides"] if not each.startswith(UNTOLD)] for job in jobs]
    among, labels = varied(overrides) if len(jobs) > 1 else [], []
    for job, own in zip(jobs, overrides, strict=True):
        results = read_results(job.folder / RESULTS)
        protocol = results["protocol"]
        words = short_label([each for each in own if each in among], among)
        labels.append(words or results.get("name") or f"{protocol['model']} on {protocol['data']}")
    names = [job.name for job in jobs]
    if len({*names}) < len(names):  # of runs in several folders
        names = [str(job.folder) for job in jobs]
    return [label if labels.count(label) == 1 else f"{label} ({name})" for label, name in zip(labels, names, strict=True)]
