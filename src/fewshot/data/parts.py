"""What `data.train`, `data.val` and `data.test` are: a source and how tasks are drawn from it, or tasks that are computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fewshot.data.meta_batches import Tasks
from fewshot.data.source import ArraySpec, Source
from fewshot.errors import UserError
from fewshot.tasks.class_sampler import ClassSampler
from fewshot.tasks.group_sampler import GroupSampler
from fewshot.tasks.sampler import Range, Sampler


class ComputedTasks(Tasks):
    """Tasks that are computed from their number rather than drawn from rows; their targets are values.

    Attributes:
        name: of what is computed, with its options.
        x: inputs, of each row.
        description: the size of a task in plain values (``ways``, ``shots``, ``queries``), as the protocol of a result has it.
        seed: of what is computed.
        has_labels, apart, replacement: as those of `Part`.
    """

    name: str
    x: ArraySpec
    description: dict[str, object]
    seed: int = 0
    has_labels = False
    apart = None
    replacement = None


@dataclass(frozen=True)
class Part:
    """Tasks drawn from a source.

    Attributes:
        source: of the rows.
        sampler: draws tasks.
        seed: of the draws.
        unknown: all of whose rows are of none of the classes; None takes those of other classes of the part, where asked for.
    """

    source: Source
    sampler: Sampler
    seed: int = 0
    unknown: Source | None = None

    @property
    def name(self) -> str:
        """The name of the source."""
        return self.source.name

    @property
    def x(self) -> ArraySpec:
        """Inputs, of each row."""
        return self.source.x

    @property
    def description(self) -> dict[str, object]:
        """Ways, shots and queries of a task, and what else it is drawn by, in plain values."""
        return self.sampler.description

    @property
    def has_labels(self) -> bool:
        """Whether a row's target is its class, not a value."""
        return self.source.y is None

    @property
    def apart(self) -> str | None:
        """The column of which no value is on both sides of a task; None where none is kept apart."""
        return self.sampler.apart

    @property
    def replacement(self) -> bool | None:
        """Whether rows of one task may be in others; None of tasks that are computed, which have no rows."""
        return self.sampler.replacement


def class_tasks(
    source: Source | None,
    ways: Range,
    shots: Range | Literal["meta_dataset"],
    queries: int,
    within: str | Sequence[str] | None = None,
    apart: str | None = None,
    seed: int = 0,
    unknown: Source | None = None,
    replacement: bool = True,
) -> Part:
    """Tasks of classes (`ClassSampler`)."""
    sampler = ClassSampler(_plain(ways), _plain(shots), queries, _plain(within), apart, replacement)
    return Part(_given(source), sampler, seed, unknown)


def group_tasks(
    source: Source | None,
    group: str,
    shots: int | Literal["rest"],
    queries: int | Literal["rest"],
    once: bool = False,
    rows: Sequence[int] | None = None,
    ways: int = 1,
    seed: int = 0,
) -> Part:
    """Tasks of groups, for instance users (`GroupSampler`); `ways` is 1, as they have no classes."""
    if ways != 1:
        raise UserError(f"data.ways={ways} but tasks of a {group} have no classes; leave it at 1")
    return Part(_given(source), GroupSampler(group, shots, queries, once, _plain(rows)), seed)


def _given(source: Source | None) -> Source:
    """A part's own source, or ``data.source``, which `build_data` has put in the place of null."""
    if source is None:
        raise UserError("data.source=null leaves tasks without rows; choose a dataset, for instance data=glyphs")
    return source


def _plain(value: Any) -> Any:
    """A range as a tuple, so that samplers can be compared and hashed."""
    return tuple(value) if isinstance(value, list) else value
