"""Splits: which rows of a source belong to which part; pure functions of its table, disjoint by construction."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from fewshot.data.source import SPLITS
from fewshot.errors import UserError, check_int, check_positive, suggest
from fewshot.tasks.sampler import Range
from fewshot.tasks.streams import IntArray, stream_key, uniforms
from fewshot.tasks.table import CLASS, ORIGINAL, Column, Table

SCENARIOS = ("users", "items", "both")
"""What may be new in recommendation."""


class Split(ABC):
    """A rule for which rows belong to which part.

    Attributes:
        rule: its name in config and protocol.
        by: the column whose values are in one part each.
    """

    rule: str
    by: str

    def of(self, published: Sequence[str]) -> "Split":
        """The split of a source that is published in such parts: this one, whatever they are."""
        return self

    @abstractmethod
    def needed(self, part: str, published: Sequence[str], source: str) -> list[str]:
        """The published parts of a source that a part takes rows from.

        Raises:
            UserError: it is not published in such parts.
        """

    @abstractmethod
    def rows(self, part: str, table: Table) -> IntArray:
        """Numbers of the part's rows in the table of all that it needs.

        Raises:
            UserError: there are too few classes or groups.
        """

    @property
    def description(self) -> dict[str, object]:
        """The rule and its settings, in plain values."""
        settings: dict[str, object] = asdict(self)  # type: ignore[call-overload]
        # an option that is off, or left to the source, is no part of the rule
        asked = {key: value for key, value in settings.items() if value is not False and value is not None}
        return {"rule": self.rule, **asked}


@dataclass(frozen=True)
class Published(Split):
    """The split that a source is published with.

    Attributes:
        name: of several in circulation; None leaves it to the source. The source divides itself by it.
    """

    name: str | None = None
    rule = "published"
    by = CLASS

    def needed(self, part: str, published: Sequence[str], source: str) -> list[str]:
        if part not in published:
            raise UserError(
                f"data/split=published but {source} is published without a {part} split; choose data/split=fractions, kfold or "
                "leave_one_group_out"
            )
        return [part]

    def rows(self, part: str, table: Table) -> IntArray:
        return np.arange(len(table))


@dataclass(frozen=True)
class Whole(Split):
    """All rows: of a source that one part alone takes rows from, and that is published without parts of its own."""

    rule = "whole"
    by = CLASS

    def needed(self, part: str, published: Sequence[str], source: str) -> list[str]:
        return list(published)

    def rows(self, part: str, table: Table) -> IntArray:
        return np.arange(len(table))


class _ByValue(Split):
    """Gives each value of a column to one part. Copies of a class go with their original, and into training alone."""

    def needed(self, part: str, published: Sequence[str], source: str) -> list[str]:
        return list(published)

    def rows(self, part: str, table: Table) -> IntArray:
        column = table.column(self.by, "data.split.by")
        if self.by == CLASS and ORIGINAL in table.columns:
            column = table.columns[ORIGINAL]
        members = np.zeros(len(column.names), dtype=bool)
        members[list(self.values(column)[part])] = True
        chosen = members[column.values]
        if part != "train" and ORIGINAL in table.columns:
            classes, originals = table.columns[CLASS], table.columns[ORIGINAL]
            same = np.array(classes.names)[classes.values] == np.array(originals.names)[originals.values]
            chosen &= same
        return np.flatnonzero(chosen)

    @abstractmethod
    def values(self, column: Column) -> dict[str, list[int]]:
        """The numbers of the values that each part has."""

    def _shuffled(self, column: Column, seed: int) -> list[int]:
        """The numbers of all values in an order that their names and a seed determine."""
        by_name = np.argsort(column.names, kind="stable")
        order = uniforms(stream_key("split", self.by, seed), [0], len(by_name))[0].argsort(kind="stable")
        return [int(number) for number in by_name[order]]


@dataclass(frozen=True)
class Fractions(_ByValue):
    """Shares of the classes, drawn by a seed.

    Attributes:
        train, val, test: shares, which are taken of their sum.
        by: the column whose values are shared out.
        seed: of the draw.
        least: classes that validation and test have at least, whatever their shares, or a range of which the largest counts.
    """

    train: float = 0.6
    val: float = 0.2
    test: float = 0.2
    by: str = CLASS
    seed: int = 0
    least: Range = 1
    rule = "fractions"

    def __post_init__(self) -> None:
        for part in SPLITS:
            check_positive(f"data.split.{part}", getattr(self, part))
        check_int("data.split.seed", self.seed, least=0)

    def values(self, column: Column) -> dict[str, list[int]]:
        if len(column.names) < len(SPLITS):
            raise UserError(
                f"data.split.by={self.by}: {len(column.names)} values are too few for three parts; choose another column"
            )
        least = 1 if self.by != CLASS else self.least if isinstance(self.least, int) else self.least[-1]
        if (count := len(column.names)) < len(SPLITS) * least:
            most = count // len(SPLITS)
            remedy = f"choose data.ways<={most}, or add classes" if most > 1 else "add classes, or let predict.py learn them"
            raise UserError(
                f"data.eval.ways={least} needs as many classes in each of train, val and test, but there are {count} in all; "
                f"{remedy}"
            )
        order, total = self._shuffled(column, self.seed), self.train + self.val + self.test
        val, test = (max(least, round(len(order) * share / total)) for share in (self.val, self.test))
        if val + test >= count:
            raise UserError(
                f"data.split.train={self.train:g} leaves none of {count} values of {self.by} to train on; choose more"
            )
        return {"test": order[:test], "val": order[test : test + val], "train": order[test + val :]}


@dataclass(frozen=True)
class OwnOrFractions(Fractions):
    """The split that a source comes with; of one that has none, shares of the classes."""

    def of(self, published: Sequence[str]) -> Split:
        return self if tuple(published) == ("all",) else Published()


@dataclass(frozen=True)
class KFold(_ByValue):
    """Cross-validation: the classes are dealt into folds; one is tested, the next one validates, the others train.

    Attributes:
        folds: how many.
        fold: that is tested, from 0.
        by: the column whose values are dealt.
        seed: of the deal.
        thirds: a third of the classes trains and a third validates, both rounded down, and the rest is tested: what text has
            (Dopierre et al. 2021). The folds begin at equal distances in one circle of classes, so that each class is tested by
            one or two of five.
    """

    folds: int = 5
    fold: int = 0
    by: str = CLASS
    seed: int = 0
    thirds: bool = False
    rule = "kfold"

    def __post_init__(self) -> None:
        check_int("data.split.folds", self.folds, least=3)
        check_int("data.split.fold", self.fold, least=0)
        check_int("data.split.seed", self.seed, least=0)
        if self.fold >= self.folds:
            raise UserError(
                f"data.split.fold={self.fold} but data.split.folds={self.folds}; choose a fold from 0 to {self.folds - 1}"
            )

    def values(self, column: Column) -> dict[str, list[int]]:
        if len(column.names) < self.folds:
            raise UserError(f"data.split.folds={self.folds} but {self.by} has {len(column.names)} values; choose fewer folds")
        order = self._shuffled(column, self.seed)
        if self.thirds:
            third, start = len(order) // 3, self.fold * len(order) // self.folds
            circle = order[start:] + order[:start]
            return {"test": circle[: -2 * third], "val": circle[-2 * third : -third], "train": circle[-third:]}
        folds = [order[number :: self.folds] for number in range(self.folds)]
        validated = (self.fold + 1) % self.folds
        train = [value for number, fold in enumerate(folds) if number not in (self.fold, validated) for value in fold]
        return {"test": folds[self.fold], "val": folds[validated], "train": train}


@dataclass(frozen=True)
class LeaveOneGroupOut(_ByValue):
    """One value of a column (an alphabet, a domain) is tested; a share of the others validates, the rest train.

    Attributes:
        by: the column.
        which: the value that is tested.
        val: share of the other values that validate, at least one of them.
        seed: of the draw of these.
    """

    by: str
    which: str
    val: float = 0.2
    seed: int = 0
    rule = "leave_one_group_out"

    def __post_init__(self) -> None:
        check_int("data.split.seed", self.seed, least=0)
        if not 0 < self.val < 1:
            raise UserError(f"data.split.val={self.val} must be a share greater than 0 and less than 1")

    def values(self, column: Column) -> dict[str, list[int]]:
        which = str(self.which)
        if which not in column.names:
            raise UserError(f"data.split.which={which} is no {self.by} of these data{suggest(which, column.names)}")
        if len(column.names) < len(SPLITS):
            raise UserError(
                f"data.split.by={self.by}: {len(column.names)} values are too few for three parts; choose another column"
            )
        tested = column.names.index(which)
        others = [value for value in self._shuffled(column, self.seed) if value != tested]
        val = max(1, round(len(others) * self.val))
        return {"test": [tested], "val": others[:val], "train": others[val:]}


@dataclass(frozen=True)
class ColdStart(Split):
    """New users, new items, or both, as in recommendation (Lee et al. 2019, section 4.1).

    Users are dealt into folds: those of one are tested, those of the next validate, the others train. Items of
    the last years are new: as many years as make up a share of all items at most. Training and validation see old ones only.

    Attributes:
        scenario: what is tested: ``users`` (new users, old items), ``items`` (users of training, new items) or ``both``.
        new: share of the items, at the most, that are new.
        folds: how many.
        fold: of users that are tested, from 0.
        seed: of the deal.
    """

    scenario: str = "users"
    new: float = 0.2
    folds: int = 5
    fold: int = 0
    seed: int = 0
    rule = "cold_start"
    by = "user"

    def __post_init__(self) -> None:
        if self.scenario not in SCENARIOS:
            raise UserError(f"data.split.scenario={self.scenario} is unknown{suggest(self.scenario, SCENARIOS)}")
        if not 0 < self.new < 1:
            raise UserError(f"data.split.new={self.new} must be a share greater than 0 and less than 1")
        KFold(self.folds, self.fold, self.by, self.seed)  # refuses what it cannot deal

    def needed(self, part: str, published: Sequence[str], source: str) -> list[str]:
        return list(published)

    def rows(self, part: str, table: Table) -> IntArray:
        users = table.column(self.by, "data/split=cold_start: column")
        parts = KFold(self.folds, self.fold, self.by, self.seed).values(users)
        chosen = parts["train" if part == "test" and self.scenario == "items" else part]
        new = self._new(table)
        wanted = new if part == "test" and self.scenario != "users" else ~new
        return np.flatnonzero(np.isin(users.values, chosen) & wanted)

    def _new(self, table: Table) -> npt.NDArray[np.bool_]:
        """Of each row, whether its item is new."""
        items, years = (table.column(name, "data/split=cold_start: column") for name in ("item", "year"))
        of_rows = np.array([int(name) for name in years.names])[years.values]
        of_items = np.zeros(len(items.names), dtype=np.int64)
        of_items[items.values] = of_rows
        fitting = (year for year in sorted(set(of_items.tolist())) if (of_items >= year).mean() <= self.new)
        first = next(fitting, None)
        if first is None:
            raise UserError(f"data.split.new={self.new} is less than the share of the items of the last year; choose more")
        return np.asarray(of_rows >= first)
