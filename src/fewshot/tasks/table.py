"""What is known of the rows of a dataset: columns of names, from listings alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fewshot.errors import UserError, suggest
from fewshot.tasks.streams import IntArray

CLASS = "class"
"""The column of what rows show. A table of ratings has none."""
ORIGINAL = "original"
"""The column of what a class is an augmented copy of, in tables with such classes."""
BAR = "|"
"""Between the values of a class that has several in one column, as nodes of WordNet above it."""


@dataclass(frozen=True, eq=False)
class Column:
    """Something that every row has one of: a class, an alphabet, a user, a patient.

    Attributes:
        names: of the values, each once.
        values: ``(rows,)`` the number of each row's name.
    """

    names: tuple[str, ...]
    values: IntArray

    @staticmethod
    def of(names_of_rows: Sequence[str]) -> "Column":
        """The column with these names, one a row; numbered in their order."""
        rows = [str(name) for name in names_of_rows]  # an array of them would give each the room of the longest
        names = tuple(sorted(set(rows)))
        numbers = {name: number for number, name in enumerate(names)}
        return Column(names, np.array([numbers[name] for name in rows], dtype=np.int64))

    @cached_property
    def sizes(self) -> IntArray:
        """``(names,)`` rows of each value."""
        return np.bincount(self.values, minlength=len(self.names))

    @cached_property
    def rows(self) -> IntArray:
        """All rows, those of the first value first."""
        return np.argsort(self.values, kind="stable")

    @cached_property
    def starts(self) -> IntArray:
        """``(names,)`` where each value's rows begin in `rows`."""
        return np.cumsum(self.sizes) - self.sizes

    def rows_of(self, value: int) -> IntArray:
        """The rows of a value."""
        return self.rows[self.starts[value] : self.starts[value] + self.sizes[value]]

    def select(self, rows: IntArray) -> "Column":
        """The column of some rows; values that none of them has are left out."""
        kept, values = np.unique(self.values[rows], return_inverse=True)
        return Column(tuple(self.names[value] for value in kept), values.astype(np.int64).reshape(-1))


@dataclass(frozen=True, eq=False)
class Table:
    """Rows with columns.

    Attributes:
        columns: by name; all have as many rows.
    """

    columns: Mapping[str, Column]

    def __post_init__(self) -> None:
        if len({len(column.values) for column in self.columns.values()}) != 1:
            raise ValueError("columns must be there, and of one length")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())).values)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; none where rows have no class."""
        return self.columns[CLASS].names if CLASS in self.columns else ()

    def column(self, name: str, key: str) -> Column:
        """A column.

        Args:
            name: of the column.
            key: of the config, that asks for it.

        Raises:
            UserError: there is none.
        """
        if name not in self.columns:
            raise UserError(f"{key}={name} is no column of these data{suggest(name, tuple(self.columns))}")
        return self.columns[name]

    def by_class(self, name: str, key: str) -> IntArray:
        """The value of each class in a column that all rows of a class agree in, ``(classes,)``.

        Raises:
            UserError: they do not, or there is no such column.
        """
        classes, column = self.column(CLASS, key), self.column(name, key)
        first = column.values[classes.rows[classes.starts]]
        differing = np.flatnonzero(first[classes.values] != column.values)
        if len(differing):
            raise UserError(
                f"{key}={name}: the rows of class {classes.names[classes.values[differing[0]]]} differ in it; "
                "choose a column that belongs to classes"
            )
        return first

    def select(self, rows: IntArray) -> "Table":
        """The table of some rows, in their order."""
        return Table({name: column.select(rows) for name, column in self.columns.items()})

    @staticmethod
    def joined(tables: Sequence["Table"]) -> "Table":
        """The rows of several tables, one after another, with the columns that all have."""
        if len(tables) == 1:
            return tables[0]
        shared = [name for name in tables[0].columns if all(name in table.columns for table in tables)]
        return Table({name: _joined([table.columns[name] for table in tables]) for name in shared})


def _joined(columns: Sequence[Column]) -> Column:
    names = sorted({name for column in columns for name in column.names})
    numbers = {name: number for number, name in enumerate(names)}
    renumbered = [np.array([numbers[name] for name in column.names], dtype=np.int64)[column.values] for column in columns]
    return Column(tuple(names), np.concatenate(renumbered))
