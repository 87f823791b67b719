"""``python -m fewshot.compare RUN RUN ... [--baseline RUN]``: whether runs differ in the score that decides, and in protocol.

A RUN is the folder of a run, of an evaluation, or of a sweep, whose configs are compared over their seeds and folds. It reads
files alone: it works on copies, anywhere, without PyTorch.
"""

import argparse
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from fewshot.errors import UserError
from fewshot.evaluation.card import FIELDS, POPULATION, card
from fewshot.evaluation.comparison import EvaluatedRun, evaluated_run
from fewshot.evaluation.differences import LEVEL, Difference, difference, holm
from fewshot.evaluation.results import read_results
from fewshot.evaluation.scores import formatted, score
from fewshot.files import json_text
from fewshot.runtime.cli import mistakes_explained, tolerate_any_console
from fewshot.sweep.groups import configs_of, doubled, groups_of, named
from fewshot.sweep.job import RECORD, RESULTS, Job, SingleRun, jobs_in
from fewshot.sweep.report import WIDTH, console, plain_table

NOTHING = "–"


@dataclass(frozen=True, eq=False)
class Entry:
    """What is compared: a run, or the runs of one config over seeds and folds.

    Attributes:
        label: for tables.
        words: any of which name it as the baseline: overrides in full, as tables have them, and their values alone.
        folder: that was named.
        results: of its runs.
        tested: task by task, of each.
    """

    label: str
    words: frozenset[str]
    folder: Path
    results: tuple[dict[str, Any], ...]
    tested: tuple[EvaluatedRun, ...]

    @property
    def mean(self) -> float:
        """Of the score: over folds, then seeds, then tasks."""
        folds: dict[str, list[float]] = {}
        for run in self.tested:
            folds.setdefault(run.tasks, []).append(float(run.figures.mean()))
        return sum(sum(seeds) / len(seeds) for seeds in folds.values()) / len(folds)

    @property
    def extent(self) -> str:
        """How many tasks there are, and in how many folds."""
        tasks = {run.tasks: len(run.figures) for run in self.tested}
        folds = f" in {len(tasks)} folds" if len(tasks) > 1 else ""
        return f"{sum(tasks.values()):,} tasks{folds}"


@dataclass(frozen=True)
class Comparison:
    """An entry beside the baseline.

    Attributes:
        p: of no difference, by Holm's correction for all that are compared with the baseline.
        fields: in which their protocols differ: the words of the baseline and of the entry.
    """

    entry: Entry
    found: Difference
    p: float
    fields: dict[str, tuple[str, str]]

    @property
    def verdict(self) -> str:
        """Whether the entry is better."""
        return self.found.verdict(self.p)


def compare(entries: Sequence[Entry], baseline: Entry) -> list[Comparison]:
    """Each of the entries with the baseline.

    Raises:
        UserError: they have other scores, or test tasks of other kinds, so that a difference would mean nothing.
    """
    found = []
    for entry in (each for each in entries if each is not baseline):
        scores = [side.tested[0].score for side in (baseline, entry)]
        if len(set(scores)) > 1:
            raise UserError(
                f"{entry.label} is decided by {scores[1]}, {baseline.label} by {scores[0]}; compare runs of one score"
            )
        result = difference(entry.tested, baseline.tested)
        fields = _fields(baseline, entry)
        if not result.paired and (other := [field for field in POPULATION if field in fields]):
            said = ", ".join(f"{field} ({fields[field][0]} | {fields[field][1]})" for field in other)
            raise UserError(
                f"{baseline.label} and {entry.label} were tested on tasks of other kinds: they differ in {said}; evaluate one "
                "on the tasks of the other, as in python eval.py run=RUN data.eval.shots=1"
            )
        found.append((entry, result, fields))
    adjusted = holm([result.p for _, result, _ in found])
    return [Comparison(entry, result, p, fields) for (entry, result, fields), p in zip(found, adjusted, strict=True)]


def entries_of(folders: Sequence[Path]) -> list[Entry]:
    """What the folders hold, in their order.

    Raises:
        UserError: one holds no run, or one that was not tested.
    """
    found = [entry for folder in folders for entry in _entries(folder)]
    labels = [entry.label for entry in found]
    return [
        entry if labels.count(entry.label) == 1 else replace(entry, label=f"{entry.label} ({entry.folder})") for entry in found
    ]


def chosen(entries: Sequence[Entry], words: str | None) -> Entry:
    """The baseline: named by its folder, or by what tells it from other configs of its sweep; the first where it is not named.

    Raises:
        UserError: none or several are so named.
    """
    if words is None:
        return entries[0]
    found = [entry for entry in entries if words and entry.folder.resolve() == Path(words).resolve()]
    found = found or [entry for entry in entries if set(words.split()) <= entry.words]
    if len(found) != 1:
        labels = ", ".join(f"'{entry.label}'" for entry in found or entries)
        raise UserError(f"--baseline='{words}' fits {len(found)} of the runs; choose one of: {labels}")
    return found[0]


def show(comparisons: Sequence[Comparison], baseline: Entry) -> None:
    """Prints tables that fit in 80 columns."""
    out, name = console(WIDTH), baseline.tested[0].score
    better = "higher" if score(name).mode == "max" else "lower"
    out.print(f"test {score(name).axis}; {better} is better; differences to {baseline.label}", markup=False)
    out.print(_effects(comparisons, baseline, name))
    if any(each.found.paired for each in comparisons):
        out.print(_tests(comparisons))
    out.print(_needed(comparisons))
    for line in _remarks(comparisons, baseline):
        out.print(line, markup=False)
    for each in comparisons:
        if each.fields:
            out.print(f"\n{each.entry.label} differs from {baseline.label} in", markup=False)
            table = plain_table("", baseline.label, each.entry.label)
            for field, words in each.fields.items():
                table.add_row(*map(Text, (field, *words)))
            out.print(table)


def as_json(comparisons: Sequence[Comparison], baseline: Entry) -> str:
    """The same for other programs; fractions, and null for what there is not."""
    content = {
        "baseline": {"label": baseline.label, "folder": str(baseline.folder), "mean": baseline.mean},
        "comparisons": [
            {
                "label": each.entry.label,
                "folder": str(each.entry.folder),
                "mean_of_run": each.entry.mean,
                **asdict(each.found),
                "p_holm": each.p,
                "verdict": each.verdict,
                "protocol_differences": each.fields,
            }
            for each in comparisons
        ],
    }
    return json_text(content)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    whole = argparse.ArgumentParser(
        prog="python -m fewshot.compare", description="Whether runs differ in the score that decides, task by task."
    )
    whole.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, of an evaluation or of a sweep")
    whole.add_argument(
        "--baseline", metavar="RUN", help="that the others are compared with: a folder, or words such as model=maml or maml"
    )
    whole.add_argument("--json", action="store_true", help="print JSON, fractions")
    return whole


def main() -> None:
    """What the command line asks for."""
    options = parser().parse_args()
    entries = entries_of(options.runs)
    baseline = chosen(entries, options.baseline)
    if len(entries) < 2:
        raise UserError(f"{options.runs[0]} holds one config alone; name another run to compare it with")
    comparisons = compare(entries, baseline)
    if options.json:
        print(as_json(comparisons, baseline))
    else:
        show(comparisons, baseline)


def _entries(folder: Path) -> list[Entry]:
    if (folder / RESULTS).is_file():
        results = read_results(folder / RESULTS)
        overrides = Job(folder).record()["overrides"] if (folder / RECORD).is_file() else SingleRun(folder).overrides()
        label = str(results.get("name") or folder.name)
        return [_entry(label, [*overrides, *(each.partition("=")[2] for each in overrides)], folder, [(folder, results)])]
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; name that of a run, of an evaluation or of a sweep")
    groups = groups_of(jobs_in(folder))
    if twice := doubled(groups):
        raise UserError(twice[0])
    return [
        _entry(
            label if (label := named(config)) not in ("", "all") else folder.name,
            frozenset().union(*(group.called for group in config)),
            folder,
            [(job.folder, read_results(job.folder / RESULTS)) for group in config for job in group.jobs],
        )
        for config in configs_of(groups)
    ]


def _entry(label: str, words: Iterable[str], folder: Path, runs: Sequence[tuple[Path, dict[str, Any]]]) -> Entry:
    tested = [evaluated_run(of_run, results) for of_run, results in runs]
    if any(run is None for run in tested):
        raise UserError(f"{label} in {folder} was not tested; python eval.py run=RUN tests a run")
    found = tuple(run for run in tested if run is not None)
    if not all(run.is_finite for run in found):
        raise UserError(
            f"{label} in {folder} has test tasks whose {found[0].score} is not finite, and so no mean; leave it out"
        )
    return Entry(label, frozenset([*label.split(), *words]), folder, tuple(results for _, results in runs), found)


def _fields(baseline: Entry, entry: Entry) -> dict[str, tuple[str, str]]:
    """The fields of the card in which two entries differ, with all that their runs say."""
    sides = [[card(results) for results in side.results] for side in (baseline, entry)]
    words = [{field: " / ".join(sorted({each[field] for each in cards})) for field in FIELDS} for cards in sides]
    return {field: (words[0][field], words[1][field]) for field in FIELDS if words[0][field] != words[1][field]}


def _effects(comparisons: Sequence[Comparison], baseline: Entry, name: str) -> Table:
    """Means, differences with their intervals, and what they come to; intervals that none has are left out."""
    widths = {f"± {over}": f"ci95_{over}" for over in ("tasks", "seeds", "folds")}
    kept = {
        title: key for title, key in widths.items() if any(not math.isnan(getattr(each.found, key)) for each in comparisons)
    }
    table = plain_table("", "mean", "differs", *kept, "p", "")
    table.collapse_padding = True  # eight columns in 80
    table.add_row(Text(baseline.label), formatted(name, baseline.mean))
    for each in comparisons:
        figures = [_shown(name, getattr(each.found, key)) for key in kept.values()]
        cells = [formatted(name, each.entry.mean), formatted(name, each.found.mean, "+"), *figures, _p(each.p), each.verdict]
        table.add_row(Text(each.entry.label), *cells)
    return table


def _tests(comparisons: Sequence[Comparison]) -> Table:
    """What the signs and the ranks of paired differences say."""
    table = plain_table("task by task", "higher", "lower", "same", "sign test p", "Wilcoxon p")
    for each in comparisons:
        found = each.found
        if found.paired:
            counts = [f"{count:,}" for count in (found.wins, found.losses, found.ties)]
            table.add_row(Text(each.entry.label), *counts, _p(found.sign_p), _p(found.wilcoxon_p))
    return table


def _needed(comparisons: Sequence[Comparison]) -> Table:
    """How many tasks one point takes."""
    table = plain_table("tasks needed", "tested", "± 1 point", "unpaired", "80 % power", "unpaired")
    for each in comparisons:
        counts = (each.found.tasks, *asdict(each.found.needed).values())
        table.add_row(Text(each.entry.label), *(NOTHING if count is None else f"{count:,}" for count in counts))
    return table


def _remarks(comparisons: Sequence[Comparison], baseline: Entry) -> list[str]:
    """What the tables do not say by themselves."""
    name, compared = baseline.tested[0].score, [baseline, *(each.entry for each in comparisons)]
    alike: dict[str, list[str]] = {}
    for each in comparisons:
        alike.setdefault(_pairing(each.found), []).append(each.entry.label)
    lines = [f"{', '.join(labels) if len(alike) > 1 else 'All'}: {words}" for words, labels in alike.items()]
    lines.append(
        f"± is half of a 95 % interval. p is the largest over tasks, seeds and folds, by Holm's correction for "
        f"{sum(not math.isnan(each.p) for each in comparisons)}; below {LEVEL} it decides. Over folds: Nadeau & Bengio (2003)."
    )
    if any(each.found.paired and each.entry.extent != baseline.extent for each in comparisons):
        extents = "; ".join(f"{each.label}: {each.extent}" for each in compared)
        lines.append(f"Differences are over what both have; each mean is over all that its own runs have: {extents}.")
    if not score(name).percent:
        lines.append("One point is one percent of the baseline's mean.")
    return lines


def _pairing(found: Difference) -> str:
    """What a difference was taken over."""
    if not found.paired:
        return "other tasks than the baseline's, so nothing is paired: Welch's intervals."
    folds = f"{found.folds} folds, " if found.folds > 1 else ""
    seeds = f"seed by seed ({found.seeds})" if found.seeds else "over seeds of each, as they share none"
    unknown = found.folds > 1 and math.isnan(found.ci95_folds)
    missing = (
        "; how many classes a fold trains and tests is not said, so there is no interval over folds and no p" if unknown else ""
    )
    return f"paired on {folds}{found.tasks:,} tasks, {seeds}{missing}."


def _shown(name: str, figure: float) -> str:
    return NOTHING if math.isnan(figure) else formatted(name, figure)


def _p(p: float) -> str:
    return NOTHING if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


if __name__ == "__main__":
    tolerate_any_console()
    with mistakes_explained("train"):
        main()
