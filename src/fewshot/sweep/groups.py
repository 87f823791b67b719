"""Which runs belong together: those of one config over seeds, and configs over folds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from fewshot.errors import UserError
from fewshot.evaluation.comparison import EvaluatedRun, Spread, evaluated_run, over_seeds
from fewshot.evaluation.nested import NestedSpread, nested
from fewshot.evaluation.results import deciding_score
from fewshot.evaluation.scores import score
from fewshot.sweep.job import Job
from fewshot.sweep.labels import short_label, varied
from fewshot.sweep.report import counted

FOLD_KEYS = ("data.split.fold=", "data.split.which=")
"""What tells the folds of a cross-validation apart; of a published split, the second says which of several it is."""


@dataclass(frozen=True, eq=False)
class Group:
    """The complete runs of one config, over seeds.

    Attributes:
        overrides: that tell it from the other groups.
        words: the same, each in as few words as tell it apart.
        jobs: one a seed.
        score: name of the score that decides.
        validated: its mean over seeds on the validation tasks; NaN where none was validated.
        tested: the tests of those runs that were tested.
        train_seconds: mean over seeds.
        split: rule that divides the data.
        commits: of the code that the runs came from.
    """

    overrides: tuple[str, ...]
    words: tuple[str, ...]
    jobs: tuple[Job, ...]
    score: str
    validated: float
    tested: tuple[EvaluatedRun, ...]
    train_seconds: float
    split: str
    commits: frozenset[str]

    @property
    def label(self) -> str:
        """The overrides in a line."""
        return " ".join(self.overrides) or "all"

    @property
    def short(self) -> str:
        """The same, in fewer words."""
        return " ".join(self.words) or "all"

    @property
    def called(self) -> frozenset[str]:
        """The words that name it as a baseline: its overrides in full and in short, and their values alone."""
        values = [override.partition("=")[2] for override in self.overrides]
        return frozenset([*self.label.split(), *self.short.split(), *values])

    @property
    def spread(self) -> Spread | None:
        """Of the score on the test tasks."""
        return over_seeds(self.tested) if self.tested else None


def groups_of(jobs: Sequence[Job]) -> list[Group]:
    """The complete jobs, put together where they differ by their seed alone; the best on validation first.

    Raises:
        UserError: no job is complete, or those of one config were tested on different tasks.
    """
    complete = {job: results for job in jobs if (results := job.results()) is not None}
    if not complete:
        raise UserError(f"of {counted(len(jobs), 'job')} none is complete yet; see python -m fewshot.sweep status DIR")
    members: dict[str, dict[int, Job]] = {}
    for job, results in complete.items():
        members.setdefault(job.record()["group"], {})[results["protocol"].get("seed")] = job  # a run done again counts once
    told_apart = varied([_without_seed(next(iter(found.values()))) for found in members.values()])
    groups = [_group(list(found.values()), complete, told_apart) for found in members.values()]
    return sorted(groups, key=_merit, reverse=True)


def _merit(group: Group) -> float:
    """How well a group validated, higher is better."""
    if math.isnan(group.validated):
        return -math.inf
    return group.validated if score(group.score).mode == "max" else -group.validated


def chosen_baseline(groups: Sequence[Group], words: str) -> list[Group]:
    """The group that all words name (`Group.called`); of a cross-validation, its folds.

    Raises:
        UserError: they name none or several.
    """
    found = [group for group in groups if set(words.split()) <= group.called]
    found = next((folds for folds in cross_validations(groups) if set(folds) == set(found)), found)
    if len(found) != 1 and found not in cross_validations(groups):
        if twice := doubled(groups):
            raise UserError(twice[0])
        labels = ", ".join(f"'{group.label}'" for group in found or groups)
        raise UserError(f"--baseline='{words}' fits {len(found)} configs; choose one of: {labels}")
    return found


def one_score(groups: Sequence[Group]) -> str:
    """The name of the score by which all are decided.

    Raises:
        UserError: they have several, so that none is the best and no column holds them all.
    """
    scores = sorted({group.score for group in groups})
    if len(scores) > 1:
        raise UserError(f"the runs are decided by different scores ({', '.join(scores)}); take those of one score at a time")
    return scores[0]


def cross_validations(groups: Sequence[Group]) -> list[list[Group]]:
    """Groups that differ by what is left out of training alone, where there are several; the best on validation first.

    Folds come in their order, groups that were left out (alphabets) from the easiest to the hardest. Where a fold is there
    twice (`doubled`), the groups are none: their mean would count it twice.
    """
    several = [sorted(folds, key=_difficulty) for folds in _by_config(groups) if len(folds) > 1 and not _same_folds(folds)]
    return sorted(several, key=lambda folds: float(np.mean([_merit(fold) for fold in folds])), reverse=True)


def configs_of(groups: Sequence[Group]) -> list[list[Group]]:
    """The groups by config, folds of one together; first the one that validates best, on average over its folds."""
    validations = cross_validations(groups)
    of_folds = {group for folds in validations for group in folds}
    configs = [*([group] for group in groups if group not in of_folds), *validations]
    return sorted(configs, key=lambda config: float(np.mean([_merit(group) for group in config])), reverse=True)


def doubled(groups: Sequence[Group]) -> list[str]:
    """A line for each fold that is there twice: the same words on the command line, and another config by other files."""
    lines = []
    for folds in _by_config(groups):
        for one, other in _same_folds(folds):
            folders = " or ".join(str(group.jobs[0].folder) for group in (one, other))
            lines.append(
                f"no mean over folds: '{one.label}' is there twice, with configs that differ (by another version of the "
                f"project, or an edited file); move the runs of one away, which begin with {folders}"
            )
    return lines


def _by_config(groups: Sequence[Group]) -> list[list[Group]]:
    """Groups that differ by what is left out of training alone."""
    found: dict[tuple[str, ...], list[Group]] = {}
    for group in groups:
        kept = _without_fold(group.overrides)
        if len(kept) < len(group.overrides) and group.split != "published":
            found.setdefault(kept, []).append(group)
    return list(found.values())


def _same_folds(folds: Sequence[Group]) -> list[tuple[Group, Group]]:
    return [(one, other) for one, other in combinations(folds, 2) if one.overrides == other.overrides]


def _difficulty(fold: Group) -> tuple[float, tuple[str, ...]]:
    left_out = any(override.startswith(FOLD_KEYS[1]) for override in fold.overrides)
    if not left_out or fold.spread is None:
        return 0.0, fold.overrides
    return fold.spread.mean * (-1 if score(fold.score).mode == "max" else 1), fold.overrides


def named(folds: Sequence[Group]) -> str:
    """A config in few words, without what tells its folds apart where there are several."""
    if len(folds) == 1:
        return folds[0].short
    pairs = zip(folds[0].words, folds[0].overrides, strict=True)
    return " ".join(word for word, override in pairs if not override.startswith(FOLD_KEYS))


def nested_spread(folds: Sequence[Group]) -> NestedSpread | None:
    """Of the score on the test tasks of a cross-validation; None where not all folds were tested."""
    if not all(fold.tested for fold in folds):
        return None
    return nested([np.stack([run.figures for run in fold.tested]) for fold in folds])


def _group(jobs: list[Job], complete: dict[Job, dict[str, Any]], told_apart: list[str]) -> Group:
    results = [complete[job] for job in jobs]
    overrides = [override for override in _without_seed(jobs[0]) if override in told_apart]
    decides = deciding_score(results[0])
    tested = {job: run for job in jobs if (run := evaluated_run(job.folder, complete[job])) is not None}
    lists = {(run.tasks, len(run.figures)): job.folder for job, run in tested.items()}
    if len(lists) > 1:
        one, other, *_ = lists.values()
        raise UserError(
            f"{one} and {other} are runs of one config that were tested on different tasks, as data were replaced meanwhile; "
            "delete results.json of the older one to test it again"
        )
    return Group(
        overrides=tuple(overrides),
        words=tuple(short_label([override], told_apart) for override in overrides),
        jobs=tuple(jobs),
        score=decides,
        validated=float(np.mean([each["metrics"].get(f"val/{decides}", math.nan) for each in results])),
        tested=tuple(tested.values()),
        train_seconds=float(np.mean([each["cost"].get("train_seconds", math.nan) for each in results])),
        split=str((results[0]["protocol"].get("split_rule") or {}).get("rule")),
        commits=frozenset(str(each["provenance"].get("git_commit")) for each in results),
    )


def _without_seed(job: Job) -> list[str]:
    return [override for override in job.record()["overrides"] if not override.startswith("seed=")]


def _without_fold(overrides: Sequence[str]) -> tuple[str, ...]:
    return tuple(override for override in overrides if not override.startswith(FOLD_KEYS))
