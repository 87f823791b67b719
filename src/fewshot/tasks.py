"""Tasks (episodes): what one is made of, and which images task number `i` consists of.

Shapes: ``T`` tasks in a meta-batch, ``N`` ways, ``K`` shots, ``Q`` queries a class, ``C, H, W`` image.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fewshot.errors import UserError, whole

IntArray = npt.NDArray[np.int64]
Key = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class TaskSpec:
    """The size of a task: `ways` classes, each with `shots` support images and `queries` query images."""

    ways: int
    shots: int
    queries: int

    def __post_init__(self) -> None:
        for field in fields(self):
            whole(field.name, getattr(self, field.name), least=1)
        if self.ways < 2:
            raise UserError(f"ways={self.ways} leaves nothing to tell apart; choose 2 or more")

    @property
    def images_per_class(self) -> int:
        """Images that a task takes from each of its classes."""
        return self.shots + self.queries


@dataclass(frozen=True)
class TaskBatch:
    """One meta-batch of `T` tasks: all that passes between data and models.

    Within a task, rows are grouped by class: the first `K` support rows carry label 0, the next `K` label 1, and so on.
    Inputs may be images ``(C, H, W)`` of uint8 or float, vectors or token ids; targets class labels or real values.

    Attributes:
        support_x: ``(T, N*K, ...)``
        support_y: ``(T, N*K)``
        query_x: ``(T, N*Q, ...)``
        query_y: ``(T, N*Q)``
        index: ``(T,)`` the tasks' numbers in their stream
        support_id: ``(T, N*K)`` rows of the prepared split that the support images came from
        query_id: ``(T, N*Q)`` likewise
        class_id: ``(T, N)`` the number of each label's class among the classes of its split; None where tasks have no classes
    """

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor
    index: Tensor
    support_id: Tensor
    query_id: Tensor
    class_id: Tensor | None = None

    def __len__(self) -> int:
        return len(self.index)

    def __iter__(self) -> Iterator["TaskBatch"]:
        """The tasks one by one, each without its leading ``T``."""
        for i in range(len(self)):
            yield self._map(itemgetter(i))

    def slice(self, start: int, stop: int) -> "TaskBatch":
        """Tasks `start` to `stop` (left out) of the meta-batch."""
        return self._map(itemgetter(slice(start, stop)))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "TaskBatch":
        """The same tasks on `device` (Lightning calls this)."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "TaskBatch":
        """The same tasks in page-locked memory (the DataLoader calls this)."""
        return self._map(lambda tensor: tensor.pin_memory())

    def with_inputs(self, support_x: Tensor, query_x: Tensor) -> "TaskBatch":
        """The same tasks with other inputs, for instance scaled or augmented ones."""
        return replace(self, support_x=support_x, query_x=query_x)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "TaskBatch":
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        mapped: dict[str, Any] = {name: None if tensor is None else function(tensor) for name, tensor in tensors.items()}
        return TaskBatch(**mapped)


def stream_key(*parts: str | int) -> Key:
    """A 128-bit Philox key from what names a stream of random numbers (data set, split, seed, ...)."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], dtype="<u8").astype(np.uint64)


def uniforms(key: Key, indices: Sequence[int] | IntArray, count: int) -> npt.NDArray[np.float64]:
    """`count` numbers in [0, 1) for each index, a pure function of (key, index).

    Philox-4x64 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") is counter based: the index is the upper
    half of its counter, so index 1,000,000 costs what index 0 costs. Only the raw 64-bit words are used, whose values NumPy
    guarantees across versions, unlike those of its distributions.

    Returns:
        ``(len(indices), count)`` float64, multiples of 2**-53.
    """
    words = np.empty((len(indices), count), dtype=np.uint64)
    generator = np.random.Philox(key=key)
    state = generator.state
    counter = state["state"]["counter"] = np.zeros(4, dtype=np.uint64)
    state["buffer_pos"] = 4  # forget the words buffered for the previous index
    for row, index in enumerate(indices):
        counter[2] = index
        generator.state = state
        words[row] = generator.random_raw(count)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def sample_without_replacement(sizes: IntArray, uniform: npt.NDArray[np.float64]) -> IntArray:
    """Row by row, draws distinct numbers below ``sizes[row]``: the first steps of a Fisher-Yates shuffle.

    Each ordered choice is equally likely, up to the 2**-53 grain of `uniform`.

    Args:
        sizes: ``(R,)``, each at least `k`.
        uniform: ``(R, k)`` in [0, 1).

    Returns:
        ``(R, k)``
    """
    rows, draws = uniform.shape
    steps = np.arange(draws)
    deck = np.tile(np.arange(int(sizes.max(initial=draws))), (rows, 1))
    places = deck.reshape(-1)
    picks = steps + (uniform * (sizes[:, None] - steps)).astype(np.int64) + deck.shape[1] * np.arange(rows)[:, None]
    for step in range(draws):
        pick = picks[:, step]
        chosen = places[pick]
        places[pick] = deck[:, step]
        deck[:, step] = chosen
    return deck[:, :draws]


@dataclass(frozen=True)
class ClassPool:
    """The classes that tasks are drawn from: how many images each has, and which of them may meet in one task.

    Attributes:
        sizes: ``(classes,)`` images in each class.
        groups: members of each group, as class numbers. A task takes all its classes from one group, drawn uniformly; one
            group of all classes leaves them free to meet.
    """

    sizes: IntArray
    groups: tuple[IntArray, ...]

    @staticmethod
    def of(sizes: IntArray, group_names: Sequence[str] | None = None) -> "ClassPool":
        """A pool of all classes, or, with the group of each class given, of tasks within one group."""
        if group_names is None:
            return ClassPool(sizes, (np.arange(len(sizes)),))
        names = np.asarray(group_names)
        return ClassPool(sizes, tuple(np.flatnonzero(names == name) for name in sorted(set(group_names))))

    @cached_property
    def members(self) -> IntArray:
        """The groups' members, one group after another."""
        return np.concatenate(self.groups)

    @cached_property
    def group_sizes(self) -> IntArray:
        """How many members each group has, ``(groups,)``."""
        return np.array([len(group) for group in self.groups])

    @cached_property
    def group_starts(self) -> IntArray:
        """Where each group begins among `members`, ``(groups,)``."""
        return np.cumsum(self.group_sizes) - self.group_sizes

    def with_room_for(self, ways: int) -> "ClassPool":
        """The pool without the groups that have fewer than `ways` classes."""
        return replace(self, groups=tuple(group for group in self.groups if len(group) >= ways))


def draw_tasks(pool: ClassPool, spec: TaskSpec, key: Key, indices: Sequence[int] | IntArray) -> tuple[IntArray, IntArray]:
    """Which classes and images the tasks `indices` consist of: a pure function that touches no image.

    Classes are drawn uniformly without replacement, then images within each class likewise; support and query are disjoint
    because they are different positions of one draw.

    Args:
        pool: groups with fewer than `spec.ways` classes must have been left out (`ClassPool.with_room_for`).
        key: `stream_key` of (data set, split, seed).
        indices: ``(T,)`` task numbers.

    Returns:
        classes ``(T, N)``, and for each the numbers of its images within the class ``(T, N, K+Q)``, support first.
    """
    tasks, ways, images = len(indices), spec.ways, spec.images_per_class
    uniform = uniforms(key, indices, 1 + ways + ways * images)
    group = (uniform[:, 0] * len(pool.groups)).astype(np.int64)
    chosen = sample_without_replacement(pool.group_sizes[group], uniform[:, 1 : 1 + ways])
    classes = pool.members[pool.group_starts[group][:, None] + chosen]
    within = sample_without_replacement(pool.sizes[classes].reshape(-1), uniform[:, 1 + ways :].reshape(tasks * ways, images))
    return classes, within.reshape(tasks, ways, images)
