"""The parts of the page, each from what the runs have left."""

import math
import shlex
from collections.abc import Sequence
from html import escape

import numpy as np

from fewshot.errors import UserError
from fewshot.evaluation.card import card_differences, card_lines
from fewshot.evaluation.scores import score
from fewshot.evaluation.table import control_text
from fewshot.report.configs import Config, Run
from fewshot.report.hardest import HardClass, HardTask
from fewshot.report.html import folded, item, paragraph, preformatted, section, table
from fewshot.report.readings import confusions
from fewshot.report.standings import cells, remark, shown, standings
from fewshot.report.tables import Cell, figure_cell

PAIRS = 10
"""Confusions of a config that are listed."""


def results(configs: Sequence[Config]) -> str:
    """A row a config."""
    found = standings(configs)
    return section("Results", table("results by config", *cells(found)), paragraph(remark(found)))


def runs(configs: Sequence[Config]) -> str:
    """A row a run, with what it cost."""
    name = configs[0].score
    unit = ", %" if score(name).percent else ""
    header = [
        "config", "run", "status", f"validation{unit}", f"test{unit}", "± tasks", "tasks", "outer steps", "training, s",
        "tasks/s", "memory, MiB", "folder",
    ]  # fmt: skip
    rows = []
    for config in configs:
        for run in config.runs:
            metrics, cost, test = run.results["metrics"], run.results["cost"], run.results["test"]
            status = ", ".join([run.results.get("status", "completed"), *run.results.get("cut_short", [])])
            rows.append(
                [
                    *(Cell(words) for words in (config.label, run.label, status)),
                    *(shown(name, metrics.get(key, math.nan)) for key in (f"val/{name}", f"test/{name}", f"test/{name}_ci95")),
                    figure_cell(math.nan if test is None else test["tasks"], ",.0f"),
                    figure_cell(run.results["protocol"]["train"].get("steps", math.nan), ",.0f"),
                    figure_cell(cost.get("train_seconds", math.nan), ",.0f"),
                    figure_cell(cost.get("train_tasks_per_second", math.nan), ",.1f"),
                    figure_cell(cost.get("peak_rss_bytes", math.nan) / 2**20, ",.0f"),
                    Cell(str(run.folder)),
                ]
            )
    return section("Runs and their cost", table("results and cost by run", header, rows))


def mistakes(configs: Sequence[Config]) -> str:
    """Which classes are taken for which, config by config."""
    parts: list[str] = []
    for config in configs:
        queries = [run.queries for run in config.tested if run.queries is not None]
        if not queries:
            continue
        pairs = confusions(queries)
        header = ["true class", "taken for", "queries", "of those in tasks with both, %"]
        rows = [
            [
                Cell(pair.true),
                Cell(pair.predicted),
                Cell(f"{pair.queries:,}", pair.queries),
                Cell(f"{100 * pair.queries / pair.asked:.1f}", pair.queries / pair.asked),
            ]
            for pair in pairs[:PAIRS]
        ]
        text = f"The {min(PAIRS, len(pairs))} most frequent of {len(pairs):,} pairs of classes that were confused."
        parts.append(folded(config.label, paragraph(text) + table(f"confusions of {config.label}", header, rows), not parts))
    return section("Confused classes", *parts)


def hardest(configs: Sequence[Config], count: int) -> str:
    """The test tasks that were solved worst, on average over the runs that were tested on the same ones."""
    parts: list[str] = []
    for config in configs:
        run = next((run for run in config.tested if run.queries is not None), None)
        if run is not None:
            parts.append(folded(config.label, _hardest_of(config, run, count), not parts))
    return section("Hardest test tasks", *parts)


def _hardest_of(config: Config, run: Run, count: int) -> str:
    from fewshot.report.hardest import hardest_tasks

    if run.queries is None:
        return ""
    (group,) = (group for group in config.groups if run.folder in {job.folder for job in group.jobs})
    figures = np.mean([tested.figures for tested in group.tested], axis=0)
    numbers = np.unique(run.queries.task)
    if len(numbers) != len(figures):
        return paragraph("Not shown: test_predictions.csv does not have the tasks of test_tasks.csv.")
    badness = figures if score(config.score).mode == "max" else -figures
    worst = [int(numbers[place]) for place in np.argsort(badness, kind="stable")[:count]]
    try:
        tasks, pictures = hardest_tasks(run.folder, run.queries, worst)
    except UserError as error:
        return paragraph(f"Not shown: {error}.")
    remark = (
        f"As {run.label} solved them. Solid frames: support set; dashed: queries taken for another class, the surest first."
    )
    return paragraph(remark) + "".join(_task(task, pictures) for task in tasks)


def _task(task: HardTask, pictures: bool) -> str:
    classes = "".join(_class(of_task, pictures) for of_task in task.classes)
    return f"<h3>task {task.number}: {100 * task.accuracy:.0f} % right</h3>{classes}"


def _class(of_task: HardClass, pictures: bool) -> str:
    support = [item(shown, "", pictures) for shown in of_task.support]
    wrong = [
        item(mistake.shown, f"→ {mistake.predicted or 'not finite'}, {100 * mistake.probability:.0f} %", pictures, wrong=True)
        for mistake in of_task.mistakes
    ]
    head = f"<strong>{escape(of_task.name)}</strong><br>{of_task.wrong} of {of_task.queries} wrong"
    return f'<div class="class"><div>{head}</div><div class="items">{"".join([*support, *wrong])}</div></div>'


def protocol(configs: Sequence[Config]) -> str:
    """The card of each config, and in which fields they differ."""
    several = [config.runs[0].results for config in configs]
    cards = [
        f"<h3>{escape(config.label)}</h3>{preformatted(card_lines(results))}"
        for config, results in zip(configs, several, strict=True)
    ]
    differing = card_differences(several)
    rows = [[Cell(field), *map(Cell, words)] for field, words in differing.items()]
    header = ["field", *(config.label for config in configs)]
    between = table("fields in which the cards differ", header, rows, words=True) if rows else ""
    return section(
        "Protocol",
        paragraph("The first run of each config."),
        *cards,
        "<h3>In which fields they differ</h3>" if rows else "",
        between,
    )


def controls(configs: Sequence[Config]) -> str:
    """What runs with ``control=all`` come to with nothing to learn, and without learning."""
    rows = [
        [Cell(config.label), Cell(run.label), Cell(control_text(name, control, config.score))]
        for config in configs
        for run in config.runs
        for name, control in run.results.get("controls", {}).items()
    ]
    return section("Controls", table("controls", ["config", "run", "control"], rows, words=True) if rows else "")


def provenance(configs: Sequence[Config]) -> str:
    """From which code, by which commands."""
    found: dict[str, list[str]] = {}
    for config in configs:
        for run in config.runs:
            origin = run.results["provenance"]
            changed = ", working tree changed" if origin.get("git_dirty") else ""
            packages = ", ".join(f"{name} {version}" for name, version in origin.get("packages", {}).items())
            machine = origin.get("machine", {})
            hardware = ", ".join([str(machine.get("processor", "")), *machine.get("accelerators", [])])
            words = f"commit {origin.get('git_commit')}{changed}; Python {origin.get('python')}, {packages}; {hardware}"
            found.setdefault(words, []).append(shlex.join(["python", *origin.get("command", [])]))
    parts = [f"<h3>{escape(words)}</h3>{preformatted(commands)}" for words, commands in found.items()]
    return section("Commands and code", *parts)
