"""Functions to regress from a few points: each task is a function, computed from the task's number.

Sinusoids are those of Finn et al. (2017, section 5.1), harmonics those of Lacoste et al. (2018, "Uncertainty in Multitask
Transfer Learning") as TorchMeta has them, the other families those of Vuorio et al. (2019, MMAML, section 5.1 and code).

Shapes: ``T`` tasks, ``P`` parameters of a function, ``B`` points.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from fewshot.data.parts import ComputedTasks
from fewshot.data.source import ArraySpec
from fewshot.errors import UserError, check_int, suggest
from fewshot.tasks.batch import TaskBatch, TaskRows
from fewshot.tasks.streams import IntArray, stream_key, uniforms

Numbers = npt.NDArray[np.float64]

LARGEST = 5.0
"""Inputs of most families are uniform from minus this to this."""


def _between(low: float, high: float, uniform: Numbers) -> Numbers:
    return low + (high - low) * uniform


def _normal(first: Numbers, second: Numbers) -> Numbers:
    """Standard normal numbers from two uniform ones each (Box & Muller 1958)."""
    return np.asarray(np.sqrt(-2 * np.log1p(-first)) * np.cos(2 * np.pi * second))


def _sinusoid(u: Numbers, x: Numbers) -> Numbers:
    return _between(0.1, 5, u[:, :1]) * np.sin(x - np.pi * u[:, 1:2])


def _line(u: Numbers, x: Numbers) -> Numbers:
    return _between(-3, 3, u[:, :1]) * x + _between(-3, 3, u[:, 1:2])


def _quadratic(u: Numbers, x: Numbers) -> Numbers:
    factor = np.where(u[:, 3:4] < 0.5, -1, 1) * _between(0.02, 0.15, u[:, :1])
    return factor * np.square(x - _between(-3, 3, u[:, 2:3])) + _between(-3, 3, u[:, 1:2])


def _absolute(u: Numbers, x: Numbers) -> Numbers:
    return _between(-3, 3, u[:, :1]) * np.abs(x - _between(-3, 3, u[:, 2:3])) + _between(-3, 3, u[:, 1:2])


def _tanh(u: Numbers, x: Numbers) -> Numbers:
    return _between(-3, 3, u[:, :1]) * np.tanh(x - _between(-3, 3, u[:, 2:3])) + _between(-3, 3, u[:, 1:2])


def _harmonic(u: Numbers, x: Numbers) -> Numbers:
    frequency = _between(5, 7, u[:, 1:2])
    first, second = (
        _normal(u[:, i : i + 1], u[:, i + 1 : i + 2]) * np.sin(n * frequency * x + 2 * np.pi * u[:, i + 2 : i + 3])
        for n, i in ((1, 2), (2, 5))
    )
    return first + second


def _uniform_inputs(_: Numbers, points: Numbers) -> Numbers:
    return _between(-LARGEST, LARGEST, points[:, :, 0])


def _normal_inputs(u: Numbers, points: Numbers) -> Numbers:
    """Around a middle of the task's own, from -4 to 4."""
    return _between(-4, 4, u[:, :1]) + _normal(points[:, :, 0], points[:, :, 1])


@dataclass(frozen=True)
class Family:
    """Functions of one kind.

    Attributes:
        values: at the points ``(T, B)``, of functions with parameters ``(T, P)``, which are uniform from 0 to 1.
        inputs: where a task's points lie, ``(T, B)``, from its parameters and two uniform numbers a point, ``(T, B, 2)``.
    """

    values: Callable[[Numbers, Numbers], Numbers]
    inputs: Callable[[Numbers, Numbers], Numbers] = _uniform_inputs


PARAMETERS = 8
"""Of the family that has most."""
FAMILIES = {
    "sinusoid": Family(_sinusoid),
    "line": Family(_line),
    "quadratic": Family(_quadratic),
    "absolute": Family(_absolute),
    "tanh": Family(_tanh),
    "harmonic": Family(_harmonic, _normal_inputs),
}


class Functions(ComputedTasks):
    """Tasks of one function each; a pure function of (families, part, seed, the task's number).

    Args:
        part: ``train``, ``val`` or ``test``, which have functions of their own.
        families: names of `FAMILIES`; each task is of one of them, with equal chance.
        shots: support points of a task.
        queries: query points of a task.
        noise: standard deviation of what is added to targets.
        seed: of the draws.
        ways: 1, as these tasks have no classes.
    """

    def __init__(
        self,
        part: str,
        families: Sequence[str],
        shots: int,
        queries: int,
        noise: float = 0.0,
        seed: int = 0,
        ways: int = 1,
    ) -> None:
        unknown = [family for family in families if family not in FAMILIES]
        if unknown or not families:
            raise UserError(
                f"data.families={list(families)} must be of known functions{suggest(''.join(unknown[:1]), FAMILIES)}"
            )
        check_int(f"data.{part}.shots", shots, least=1)
        check_int(f"data.{part}.queries", queries, least=1)
        if ways != 1:
            raise UserError(f"data.{part}.ways={ways} but functions have no classes; leave it at 1")
        if not 0 <= noise < float("inf"):
            raise UserError(f"data.noise={noise} must be a number of at least 0")
        self.name = "+".join(families) + (f", noise {noise:g}" if noise else "")
        self.x, self.seed = ArraySpec((1,), "float32"), seed
        self.description = {"ways": 1, "shots": shots, "queries": queries}
        self._families, self._shots, self._points, self._noise = tuple(families), shots, shots + queries, noise
        self._keys = {use: stream_key("functions", *families, part, seed, use) for use in ("function", "inputs", "noise")}

    def draw(self, indices: Sequence[int]) -> list[TaskBatch]:
        tasks, points = len(indices), self._points
        which, parameters = self._functions(indices)
        random = uniforms(self._keys["inputs"], indices, 2 * points).reshape(tasks, points, 2)
        x = self._by_family(which, lambda family, rows: family.inputs(parameters[rows], random[rows]), points)
        y = self.values(indices, x)
        if self._noise:
            random = uniforms(self._keys["noise"], indices, 2 * points).reshape(tasks, points, 2)
            y = y + self._noise * _normal(random[:, :, 0], random[:, :, 1])
        inputs, targets = torch.from_numpy(x).float().unsqueeze(-1), torch.from_numpy(y).float()
        k, rows = self._shots, TaskRows(torch.tensor(list(indices)))
        return [TaskBatch(inputs[:, :k], targets[:, :k], inputs[:, k:], targets[:, k:], rows)]

    def values(self, indices: Sequence[int], x: Numbers) -> Numbers:
        """Of the tasks' functions at points ``(T, B)``, without noise."""
        which, parameters = self._functions(indices)
        return self._by_family(which, lambda family, rows: family.values(parameters[rows], x[rows]), x.shape[1])

    def _functions(self, indices: Sequence[int]) -> tuple[IntArray, Numbers]:
        """The number of each task's family ``(T,)`` and its parameters ``(T, P)``."""
        random = uniforms(self._keys["function"], indices, 1 + PARAMETERS)
        return (random[:, 0] * len(self._families)).astype(np.int64), random[:, 1:]

    def _by_family(self, which: IntArray, compute: Callable[[Family, IntArray], Numbers], points: int) -> Numbers:
        found = np.empty((len(which), points))
        for number, name in enumerate(self._families):
            rows = np.flatnonzero(which == number)
            found[rows] = compute(FAMILIES[name], rows)
        return found
