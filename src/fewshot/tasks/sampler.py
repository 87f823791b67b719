"""The interface of samplers: task number -> numbers of rows of a table, a pure function that touches no content."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields

from fewshot.tasks.batch import TaskRows
from fewshot.tasks.streams import Key
from fewshot.tasks.table import Table

Range = int | Sequence[int]
"""A number, or the smallest and the largest of those that are drawn uniformly."""


@dataclass(frozen=True)
class Sampler(ABC):
    """Draws tasks from a table."""

    @property
    @abstractmethod
    def unit(self) -> str:
        """The column of what must have enough rows for a task."""

    @property
    def replacement(self) -> bool:
        """Whether rows of one task may be in others."""
        return True

    @property
    def apart(self) -> str | None:
        """The column of which no value is on both sides of a task; None where none is kept apart."""
        return None

    def tasks(self, table: Table) -> int | None:
        """How many tasks there are; None where there is no end."""
        return None

    @abstractmethod
    def draw(self, table: Table, key: Key, indices: Sequence[int]) -> list[TaskRows]:
        """The tasks `indices`, those of one size together: each is a pure function of (table, key, its index)."""

    @abstractmethod
    def check_sizes(self, prefix: str) -> None:
        """Refuses sizes that no table could have.

        Args:
            prefix: of the config's keys, ``data.train`` for instance.

        Raises:
            UserError: naming key, value and remedy.
        """

    @abstractmethod
    def unfit(self, table: Table) -> dict[str, int]:
        """The classes or groups that have too few or too many rows for a task: name -> rows that it has."""

    @abstractmethod
    def check(self, table: Table, prefix: str, part: str) -> None:
        """Refuses a table that not every task could be drawn from.

        Raises:
            UserError: naming key, value and remedy.
        """

    @property
    def description(self) -> dict[str, object]:
        """The size of a task in plain values, as the protocol of a result has it."""
        return {f.name: list(v) if isinstance(v := getattr(self, f.name), list | tuple) else v for f in fields(self)}
