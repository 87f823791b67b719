"""Tasks of groups, for instance of users, whose rows have no classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from fewshot.errors import UserError, check_int
from fewshot.tasks.batch import TaskRows
from fewshot.tasks.sampler import Sampler
from fewshot.tasks.streams import IntArray, Key, derived_key, uniforms
from fewshot.tasks.table import Table

REST = "rest"
"""All rows of a group that are not on the other side of its task."""


@dataclass(frozen=True)
class GroupSampler(Sampler):
    """Tasks of groups: each value of a column (a user) is a task, whose support and query rows are drawn without replacement.

    Attributes:
        group: the column.
        shots: support rows of a task, or ``rest`` for all that are no queries.
        queries: query rows of a task, or ``rest`` for all that are no support rows.
        once: task `i` is group `i`, and there are as many tasks as groups; else groups are drawn uniformly, without end.
        rows: the smallest and the largest number of rows of a group that is a task (13 and 100 of Lee et al. 2019); None takes
            all groups that have enough.
    """

    group: str
    shots: int | Literal["rest"]
    queries: int | Literal["rest"]
    once: bool = False
    rows: Sequence[int] | None = None

    @property
    def unit(self) -> str:
        return self.group

    @property
    def replacement(self) -> bool:
        return not self.once

    def tasks(self, table: Table) -> int | None:
        return len(table.columns[self.group].names) if self.once else None

    def check_sizes(self, prefix: str) -> None:
        for name, value in (("shots", self.shots), ("queries", self.queries)):
            if value != REST:
                check_int(f"{prefix}.{name}", value, least=1)
        if self.shots == self.queries == REST:
            raise UserError(f"{prefix}.shots=rest and {prefix}.queries=rest leave open which rows are which; give one a number")
        if self.rows is not None and (len(self.rows) != 2 or not 1 <= self.rows[0] <= self.rows[1]):
            raise UserError(f"{prefix}.rows={list(self.rows)} is no range; give [smallest, largest]")

    def unfit(self, table: Table) -> dict[str, int]:
        groups = table.columns[self.group]
        needed = sum(1 if count == REST else int(count) for count in (self.shots, self.queries))
        least, most = self.rows or (needed, len(table))
        sizes = zip(groups.names, groups.sizes.tolist(), strict=True)
        return {name: size for name, size in sizes if not max(needed, least) <= size <= most}

    def check(self, table: Table, prefix: str, part: str) -> None:
        groups, unfit = table.column(self.group, f"{prefix}.group"), self.unfit(table)
        if unfit:
            name = min(unfit, key=lambda name: unfit[name])
            between = f", and {prefix}.rows={list(self.rows)}" if self.rows else ""
            raise UserError(
                f"{prefix}.shots={self.shots} and {prefix}.queries={self.queries}{between} do not fit {self.group} {name} of "
                f"the {part} split, which has {unfit[name]} rows; choose others, or leave such groups out ({len(unfit)} of "
                f"{len(groups.names)}) with data.skip_small_classes=true"
            )

    def draw(self, table: Table, key: Key, indices: Sequence[int]) -> list[TaskRows]:
        groups = table.columns[self.group]
        chosen = [int(u * len(groups.names)) for u in uniforms(derived_key(key, "group"), indices, 1)[:, 0]]
        by_size: dict[int, list[tuple[int, IntArray]]] = {}
        for index, number in zip(indices, list(indices) if self.once else chosen, strict=True):
            rows = groups.rows_of(number)
            rows = rows[uniforms(derived_key(key, "rows"), [index], len(rows))[0].argsort()]
            if REST not in (self.shots, self.queries):
                rows = rows[: int(self.shots) + int(self.queries)]
            by_size.setdefault(len(rows), []).append((index, rows))
        found = []
        for size, tasks in by_size.items():
            drawn = torch.from_numpy(np.stack([rows for _, rows in tasks]))
            shots = size - int(self.queries) if self.shots == REST else int(self.shots)
            found.append(TaskRows(torch.tensor([index for index, _ in tasks]), drawn[:, :shots], drawn[:, shots:]))
        return found

    @property
    def description(self) -> dict[str, object]:
        return {"ways": 1, **super().description}
