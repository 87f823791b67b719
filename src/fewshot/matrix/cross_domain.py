"""Trained on each of some datasets once, tested on all of others: how far what is learned carries.

A target is tested by its own split and its own rules (what its tasks are within, what is kept apart), and its rows are brought
to what the source's network takes: ``data.image_shape`` pixels and channels, normalised by the source's mean and deviation. A
pair for which that cannot be, as where a target has one size, is refused before anything is trained.
"""

import csv
import io
import os
import sys
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from fewshot.errors import UserError
from fewshot.evaluation.comparison import EvaluatedRun, Spread, evaluated_run, over_seeds
from fewshot.evaluation.scores import formatted, score
from fewshot.files import written_whole
from fewshot.matrix.arguments import state_of, values_of
from fewshot.matrix.heat_map import write_heat_map
from fewshot.runtime.cli import arranged, explain
from fewshot.runtime.cli import run as run_command
from fewshot.runtime.config_check import place_numbers, shown
from fewshot.runtime.config_files import RESOLVED, load_config
from fewshot.runtime.config_groups import CONFIGS
from fewshot.runtime.eval_config import offer_saved_config
from fewshot.sweep.identity import sweep_name
from fewshot.sweep.job import Job, jobs_in

INPUTS = ("image_shape", "mean", "std", "buckets", "words", "tokens")
"""Keys of ``data`` that say what a network takes: the source's, whatever is tested."""
EVERYWHERE = ("--config-dir", "launcher=", "hydra.launcher.", "paths.")
"""Beginnings of arguments that evaluations need too; all others are in the configs of the runs."""

Cells = dict[tuple[str, str], Spread]


@dataclass(frozen=True)
class Plan:
    """What is trained and tested.

    Attributes:
        sources, targets: choices of the group ``data``.
        seeds: of the runs of each source.
        overrides: of ``train.py``, all runs alike.
        folder: of everything.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    seeds: tuple[str, ...]
    overrides: tuple[str, ...]
    folder: Path

    @property
    def training(self) -> Path:
        """Folder of the sweep that trains; whatever is trained otherwise has another."""
        return self.folder / "training" / _name(self.overrides)


def plan(sources: Sequence[str], targets: Sequence[str], arguments: Sequence[str], folder: Path | None) -> Plan:
    """What a command asks for.

    Args:
        sources, targets: choices of the group ``data``; without targets, they are the sources.
        arguments: of ``train.py``; those of ``seed`` may have several values.
        folder: of everything; None makes one below ``logs/matrix``.

    Raises:
        UserError: another key has several values, so that a cell would have no one config.
    """
    seeds: tuple[str, ...] = ("0",)
    overrides = []
    for argument in arranged(list(arguments)):
        values = [] if argument.startswith("-") else values_of(argument)
        if argument.startswith("seed="):
            seeds = tuple(values)
        elif argument.startswith("data="):
            raise UserError(f"{argument}: sources=A,B are the datasets that are trained on")
        elif len(values) > 1:
            raise UserError(f"{argument} has several values, and a matrix is of one config; type a command for each")
        else:
            overrides.append(argument)
    folder = folder or CONFIGS.parent / "logs/matrix" / _name(overrides)
    return Plan(tuple(dict.fromkeys(sources)), tuple(dict.fromkeys(targets or sources)), seeds, tuple(overrides), folder)


def require_fit(of: Plan) -> None:
    """Finds out, from listings alone, whether each source can be trained on, and each target tested by what that makes.

    Raises:
        UserError: data are missing, or a target's rows cannot be made what a source's network takes.
    """
    from fewshot.runtime.build import build_data

    configs = {name: _composed(of, name) for name in dict.fromkeys([*of.sources, *of.targets])}
    for source in of.sources:
        build_data(configs[source]).check(["train", "val"])
        for target in of.targets:
            cfg = deepcopy(configs[target])
            for key in INPUTS:
                if key in configs[source].data and key in cfg.data:
                    cfg.data[key] = configs[source].data[key]
            try:
                datamodule = build_data(cfg)
                if source == of.sources[0]:
                    datamodule.check(["test"])
            except Exception as error:
                message = explain(error, "train")
                if message is None:
                    raise
                raise UserError(f"what {source} trains cannot be tested on {target}: {message}") from error


def train(of: Plan) -> list[tuple[str, Job]]:
    """Trains on each source, as jobs of a sweep, where that is not done yet; ends this process where one fails.

    Returns:
        the source and the folder of each run.
    """
    varied = [f"data={','.join(of.sources)}", f"seed={','.join(of.seeds)}", "test=false"]
    sys.argv[:] = ["train.py", *of.overrides, *varied, f"hydra.sweep.dir={of.training}", "-m"]
    run_command("train", "fewshot.runtime.train:train")
    found = [(_choice(job, "data"), job) for job in jobs_in(of.training) if _choice(job, "seed") in of.seeds]
    return [(source, job) for source, job in found if source in of.sources]


def evaluate(of: Plan, run: Job) -> dict[str, EvaluatedRun]:
    """Tests a run on each target, as jobs of a sweep, where that is not done yet; ends this process where one fails.

    Returns:
        the tests by target.
    """
    data = load_config(run.folder / RESOLVED)["data"]
    fixed = [f"run={run.folder}", "logger=csv", *(f"++data.{key}={shown(data[key])}" for key in INPUTS if key in data)]
    fixed += [each for each in of.overrides if each.startswith(EVERYWHERE)]
    folder = of.folder / "evaluations" / f"{run.name}-{state_of(run.folder)}"
    sys.argv[:] = ["eval.py", *fixed, f"data={','.join(of.targets)}", f"hydra.sweep.dir={folder}", "-m"]
    run_command("eval", "fewshot.runtime.evaluate:evaluate", before=lambda: offer_saved_config(sys.argv[1:]))
    tests = {}
    for job in jobs_in(folder):
        results = job.results()
        tested = None if results is None else evaluated_run(job.folder, results)
        if tested is not None:
            if (target := _choice(job, "data")) in tests:
                raise UserError(f"{folder} has two tests on {target}, by configs that differ; delete it to test anew")
            tests[target] = tested
    return {target: tests[target] for target in of.targets}


def measured(of: Plan, tests: Sequence[tuple[str, dict[str, EvaluatedRun]]]) -> Cells:
    """The score of each source on each target, over seeds.

    Args:
        of: what was trained and tested.
        tests: of each run: its source, and its tests by target.
    """
    return {
        (source, target): over_seeds([of_run[target] for trained_on, of_run in tests if trained_on == source])
        for source in of.sources
        for target in of.targets
    }


def write(of: Plan, cells: Cells, name: str) -> str:
    """Writes ``matrix.csv``, ``matrix.png`` and ``matrix.md``.

    Args:
        of: what was trained and tested.
        cells: the figure of each pair.
        name: of the score.

    Returns:
        the Markdown.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trained_on", "tested_on", "same", "seeds", name, f"{name}_ci95_tasks", f"{name}_ci95_seeds"])
    for (source, target), found in cells.items():
        figures = [
            f"{figure:.9g}" if np.isfinite(figure) else "" for figure in (found.mean, found.ci95_tasks, found.ci95_seeds)
        ]
        writer.writerow([source, target, source == target, found.seeds, *figures])
    words = markdown(of, cells, name)
    for ending, content in (("csv", text.getvalue()), ("md", words)):
        with written_whole(of.folder / f"matrix.{ending}") as file:
            file.write(content.encode())
    means = score(name).factor * np.array([[cells[source, target].mean for target in of.targets] for source in of.sources])
    marked = [(0, row, of.targets.index(source)) for row, source in enumerate(of.sources) if source in of.targets]
    titles = (f"test {score(name).axis}; framed: trained and tested on one dataset", "tested on")
    write_heat_map(of.folder / "matrix.png", [("", means)], of.sources, of.targets, titles, marked)
    return words


def markdown(of: Plan, cells: Cells, name: str) -> str:
    """The table, a row for each source."""

    def cell(source: str, target: str) -> str:
        found = cells[source, target]
        widths = [found.ci95_tasks, *([found.ci95_seeds] if found.seeds > 1 else [])]
        text = " ± ".join(formatted(name, figure) for figure in (found.mean, *widths))
        return f"**{text}**" if source == target else text

    lines = [f"| trained on | {' | '.join(of.targets)} |", f"|---|{'---:|' * len(of.targets)}"]
    lines += [f"| {source} | {' | '.join(cell(source, target) for target in of.targets)} |" for source in of.sources]
    unit, seeds = ", %" if score(name).percent else "", len(of.seeds)
    over = f"over tasks, then over {seeds} seeds" if seeds > 1 else "over tasks"
    remark = f"Test {score(name).label}{unit}, a column for each dataset that is tested; ± is half a 95 % interval {over}. "
    return "\n".join([*lines, "", f"{remark}Bold: trained and tested on one dataset, on classes that were not trained on.", ""])


def _composed(of: Plan, data: str) -> DictConfig:
    """The config of a run on a dataset, with nothing of Hydra's own."""
    os.environ.setdefault("FEWSHOT_ROOT", str(CONFIGS.parent))
    folders = [Path(each.partition("=")[2]).absolute() for each in of.overrides if each.startswith("--config-dir=")]
    search = [f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in folders)}]"] if folders else []
    words = [each for each in of.overrides if not each.startswith(("-", "hydra."))]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", [*search, *words, f"data={data}", f"seed={of.seeds[0]}"])
    cfg.paths.output_dir = ""
    place_numbers(cfg)
    return cfg


def _name(overrides: Sequence[str]) -> str:
    return sweep_name([each for each in overrides if not each.startswith(("hydra.", "-"))])


def _choice(job: Job, key: str) -> str:
    """What a job's overrides set a key to."""
    return next((each.partition("=")[2] for each in job.record()["overrides"] if each.startswith(f"{key}=")), "")
