"""One checkpoint under every protocol that papers use: why a figure of 48.7 may become 44.

Steps come from one adaptation with the most of them, numbers of tasks from the longest list, whose first tasks the shorter ones
are: so that each number of queries and each batch norm is one evaluation.
"""

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from fewshot.errors import UserError
from fewshot.evaluation.intervals import Interval, mean_interval
from fewshot.evaluation.results import deciding_score, read_results
from fewshot.evaluation.scores import formatted, score
from fewshot.files import written_whole
from fewshot.matrix.arguments import state_of, values_of
from fewshot.matrix.heat_map import write_heat_map
from fewshot.runtime.cli import arranged
from fewshot.runtime.cli import run as run_command
from fewshot.runtime.config_files import RESOLVED, load_config
from fewshot.runtime.eval_config import offer_saved_config
from fewshot.sweep.identity import sweep_name
from fewshot.sweep.job import RESULTS, jobs_in

SPLITS = ("test", "val")
QUERIES, STEPS, TASKS = (1, 5, 15), (0, 1, 5, 10, 20), (600, 2000)
FACTORS = ("queries", "batch norm", "steps", "tasks")


@dataclass(frozen=True)
class Protocol:
    """One cell: queries of each class, batch norm (None where there is none), adaptation steps, tasks."""

    queries: int
    batch_norm: str | None
    steps: int
    tasks: int

    @property
    def values(self) -> tuple[Any, ...]:
        """In the order of `FACTORS`."""
        return self.queries, self.batch_norm, self.steps, self.tasks


@dataclass(frozen=True)
class Plan:
    """What is evaluated.

    Attributes:
        run: folder of the run.
        split: whose tasks.
        queries, batch_norms, steps, tasks: the values of each factor.
        adapts: whether the model takes steps.
        own: the protocol that the run was tested by.
        left_out: why there are fewer cells than asked for.
    """

    run: Path
    split: str
    queries: tuple[int, ...]
    batch_norms: tuple[str | None, ...]
    steps: tuple[int, ...]
    tasks: tuple[int, ...]
    adapts: bool
    own: Protocol
    left_out: tuple[str, ...]

    @property
    def overrides(self) -> list[str]:
        """Of ``eval.py``, all evaluations alike."""
        steps = [f"model.inner.eval_steps={max(self.steps)}"] if self.adapts else []
        return [f"run={self.run}", f"split={self.split}", f"data.{self.split}_tasks={max(self.tasks)}", "logger=csv", *steps]

    @property
    def varied(self) -> list[str]:
        """Of ``eval.py``, with several values."""
        norms = [norm for norm in self.batch_norms if norm is not None]
        return [
            f"data.{self.split}.queries={','.join(map(str, self.queries))}",
            *([f"model.batch_norm={','.join(norms)}"] if norms else []),
        ]


def plan(run: Path, split: str, asked: Mapping[str, Sequence[int]]) -> Plan:
    """What to evaluate of a run.

    Args:
        run: its folder.
        split: ``test`` or ``val``.
        asked: ``queries``, ``steps`` and ``tasks``; those that are missing are `QUERIES`, `STEPS` and `TASKS`.

    Raises:
        UserError: it is no complete run, or its tasks have as many queries as their users have.
    """
    if split not in SPLITS:
        raise UserError(f"split={split} is unknown; choose one of: {', '.join(SPLITS)}")
    if not (run / RESULTS).is_file() or not (run / RESOLVED).is_file():
        raise UserError(f"run={run} is no folder of a complete run; choose one below logs/train/runs")
    protocol, model = read_results(run / RESULTS)["protocol"], load_config(run / RESOLVED)["model"]
    if not isinstance(protocol["queries"], int):
        raise UserError(
            f"run={run} was tested on tasks whose queries are {protocol['queries']}, so their number cannot be varied; choose "
            "another run"
        )
    own = Protocol(protocol["queries"], protocol["batch_norm"], protocol["eval_steps"], protocol[f"{split}_tasks"])
    left_out = []
    adapts = "inner" in model
    steps = tuple(sorted({*asked.get("steps", STEPS), own.steps})) if adapts else (own.steps,)
    if not adapts:
        left_out.append(f"{protocol['model']} takes no adaptation steps")
    norms: tuple[str | None, ...] = tuple(dict.fromkeys([own.batch_norm, "transductive", "inductive"]))
    if own.batch_norm == "none" or "batch_norm" not in model:
        norms = (None,)
        left_out.append(f"{protocol['backbone']} has no batch norm to be set")
    elif protocol["model"] == "RelationNet":
        norms = tuple(norm for norm in norms if norm != "inductive")
        left_out.append("RelationNet normalises pairs of support and query, which no inductive batch norm can")
    own = Protocol(own.queries, own.batch_norm if norms != (None,) else None, own.steps, own.tasks)
    queries, tasks = (tuple(sorted({*asked.get(key, values)})) for key, values in (("queries", QUERIES), ("tasks", TASKS)))
    return Plan(run, split, queries, norms, steps, tasks, adapts, own, tuple(left_out))


def evaluate(of: Plan, folder: Path, overrides: Sequence[str]) -> Path:
    """Runs the evaluations as jobs of a sweep, those that are not done yet; ends this process where one fails.

    Args:
        of: which they are.
        folder: where they go.
        overrides: of ``eval.py`` beside those of the plan.

    Returns:
        the folder of the sweep.
    """
    keys = [word for word in arranged(list(overrides)) if "=" in word and not word.startswith("-")]
    several = [word for word in keys if len(values_of(word)) > 1]
    if several:
        raise UserError(f"{several[0]} has several values, and a matrix is of one; type a command for each, with out=FOLDER")
    fixed = [*of.overrides, *overrides]
    name = sweep_name([word for word in fixed if not word.startswith(("run=", "hydra.", "-"))])
    sweep = folder / f"{name}-{state_of(of.run)}"
    arguments = [*fixed, *of.varied, f"hydra.sweep.dir={sweep}", "-m"]
    sys.argv[:] = ["eval.py", *arguments]  # what the jobs say that they were started by
    run_command("eval", "fewshot.runtime.evaluate:evaluate", before=lambda: offer_saved_config(sys.argv[1:]))
    return sweep


def measured(of: Plan, sweep: Path) -> dict[Protocol, Interval]:
    """The score that decides in every cell, from the tasks of the evaluations of a sweep.

    Raises:
        UserError: there are fewer tasks than any cell has, or a cell is there twice.
    """
    found, most = {}, 0
    for job in jobs_in(sweep):
        results = job.results()
        if results is None:
            continue
        protocol = results["protocol"]
        norm = protocol["batch_norm"] if of.batch_norms != (None,) else None
        path = job.folder / results[of.split]["per_task_file"]
        with path.open(newline="", encoding="utf-8") as file:
            tasks = sorted(csv.DictReader(file), key=lambda row: int(row["task"]))
        most = max(most, len(tasks))
        for steps, count in product(of.steps, of.tasks):
            if protocol["queries"] in of.queries and norm in of.batch_norms and len(tasks) >= count:
                column = f"{deciding_score(results)}_{steps}"
                values = [float(row[column]) for row in tasks[:count]]
                if (cell := Protocol(protocol["queries"], norm, steps, count)) in found:
                    raise UserError(f"{sweep} has two evaluations of one protocol, by configs that differ; delete it")
                found[cell] = mean_interval(values)
    if not found:
        asked = ",".join(map(str, of.tasks))
        raise UserError(f"tasks={asked} but the {of.split} part of {of.run} has {most}; choose tasks={most} or fewer")
    return found


def write(of: Plan, cells: dict[Protocol, Interval], name: str, folder: Path) -> str:
    """Writes ``matrix.csv``, ``matrix.png`` and ``matrix.md``.

    Args:
        of: what was evaluated.
        cells: the figure of each.
        name: of the score.
        folder: of the files.

    Returns:
        the Markdown.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*(factor.replace(" ", "_") for factor in FACTORS), name, f"{name}_ci95"])
    for protocol in (Protocol(*values) for values in product(of.queries, of.batch_norms, of.steps, of.tasks)):
        if protocol in cells:
            figures = [f"{figure:.9g}" for figure in (cells[protocol].mean, cells[protocol].ci95)]
            writer.writerow([*("" if value is None else value for value in protocol.values), *figures])
    words = markdown(of, cells, name)
    for ending, content in (("csv", text.getvalue()), ("md", words)):
        with written_whole(folder / f"matrix.{ending}") as file:
            file.write(content.encode())
    _draw(of, cells, name, folder / "matrix.png")
    return words


def markdown(of: Plan, cells: dict[Protocol, Interval], name: str) -> str:
    """The table, and what moves the figure most."""
    counts = [count for count in of.tasks if any(protocol.tasks == count for protocol in cells)]
    header = ["queries", "batch norm", "tasks", *(f"{steps} steps" for steps in of.steps)]
    lines = [f"| {' | '.join(header)} |", f"|{'---:|---|---:|' + '---:|' * len(of.steps)}"]
    for queries, norm, count in product(of.queries, of.batch_norms, counts):
        row = [cells.get(Protocol(queries, norm, steps, count)) for steps in of.steps]
        shown = ["–" if cell is None else f"{formatted(name, cell.mean)} ± {formatted(name, cell.ci95)}" for cell in row]
        lines.append(f"| {' | '.join([str(queries), norm or '–', f'{count:,}', *shown])} |")
    unit = ", %" if score(name).percent else ""
    remarks = [f"{of.split} {score(name).label}{unit}; ± is half its 95 % interval over tasks."]
    missing = [count for count in of.tasks if count not in counts]
    remarks += [f"There are fewer than {min(missing):,} tasks."] if missing else []
    remarks += [f"Fewer cells: {reason}." for reason in of.left_out]
    remarks.append(_what_moves(of, cells, name))
    return "\n".join([*lines, "", " ".join(filter(None, remarks)), ""])


def reference(of: Plan, cells: dict[Protocol, Interval]) -> Protocol:
    """The cell that is nearest to the run's own protocol."""

    def distance(cell: Protocol) -> tuple[float, ...]:
        other = cell.batch_norm != of.own.batch_norm, cell.steps != of.own.steps
        return (*other, abs(cell.queries - of.own.queries), abs(cell.tasks - of.own.tasks))

    return min(cells, key=distance)


def moves(of: Plan, cells: dict[Protocol, Interval]) -> dict[str, tuple[Any, float]]:
    """For each factor the value that changes the figure most where nothing else changes, and by how much; the largest first."""
    base, found = reference(of, cells), {}
    for number, factor in enumerate(FACTORS):
        others = [cell for cell in cells if [n for n in range(4) if cell.values[n] != base.values[n]] == [number]]
        if others:
            changes = {cell.values[number]: cells[cell].mean - cells[base].mean for cell in others}
            value = max(changes, key=lambda value: abs(changes[value]))
            found[factor] = (value, changes[value])
    return dict(sorted(found.items(), key=lambda item: -abs(item[1][1])))


def _what_moves(of: Plan, cells: dict[Protocol, Interval], name: str) -> str:
    base = reference(of, cells)
    start = f"From {base.queries} queries, {base.batch_norm or 'no'} batch norm, {base.steps} steps and {base.tasks:,} tasks"
    words = [f"{factor} {value}: {formatted(name, change, '+')}" for factor, (value, change) in moves(of, cells).items()]
    return f"{start} ({formatted(name, cells[base].mean)}), one change alone moves it by: {'; '.join(words)}." if words else ""


def _draw(of: Plan, cells: dict[Protocol, Interval], name: str, path: Path) -> None:
    rows = list(product(of.queries, of.batch_norms))
    counts = [count for count in of.tasks if any(protocol.tasks == count for protocol in cells)]
    panels, marked, base = [], [], reference(of, cells)
    for panel, count in enumerate(counts):
        figures = np.full((len(rows), len(of.steps)), np.nan)
        for (row, (queries, norm)), (column, steps) in product(enumerate(rows), enumerate(of.steps)):
            cell = Protocol(queries, norm, steps, count)
            if cell in cells:
                figures[row, column] = score(name).factor * cells[cell].mean
                marked += [(panel, row, column)] if cell == base else []
        panels.append((f"{count:,} tasks", figures))
    names = [f"{queries} quer{'y' if queries == 1 else 'ies'}" + (f", {norm}" if norm else "") for queries, norm in rows]
    title = f"{of.split} {score(name).axis}; framed: nearest to the run's own protocol"
    write_heat_map(path, panels, names, [str(steps) for steps in of.steps], (title, "adaptation steps"), marked)
