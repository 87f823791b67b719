"""Estimates the memory of one outer step, from a measurement of one task before training."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fewshot.inner.chunks import ChunkedEngine
from fewshot.inner.engine import Engine
from fewshot.inner.unrolled import Unrolled
from fewshot.tasks.batch import TaskBatch


@dataclass(frozen=True)
class Forecast:
    """Memory that the tasks of a meta-batch need beside network and data.

    Attributes:
        steps: inner steps; 0 where there is no inner loop.
        tasks: number of tasks computed at once.
        bytes: estimated peak.
        bytes_by_steps: estimated peak with ``model.inner.checkpoint_steps=true``; None where the engine cannot do that.
    """

    steps: int
    tasks: int
    bytes: int
    bytes_by_steps: int | None

    def __str__(self) -> str:
        each = f"{self.steps} inner step{'s' if self.steps > 1 else ''} x " if self.steps else ""
        text = f"{each}{self.tasks} task{'s' if self.tasks > 1 else ''} at once need {_size(self.bytes)}"
        if self.bytes_by_steps is None or self.bytes_by_steps >= self.bytes:
            return text
        return f"{text}; with model.inner.checkpoint_steps=true {_size(self.bytes_by_steps)}"

    @property
    def remedy(self) -> str:
        """The settings that need less memory."""
        if not self.steps:
            return "set data.meta_batch_size lower, or data.train.ways for smaller training tasks"
        return f"set model.inner.task_chunk lower than {self.tasks}, or model.inner.checkpoint_steps=true"


def forecast(engine: Engine, batch: TaskBatch) -> Forecast:
    """Estimates from the meta-gradient of the first task, with and without checkpointed steps; leaves no gradient behind.

    Memory grows with the number of tasks adapted at once: the estimate is that number times the memory of one task.
    """
    inner, tasks, one = engine.inner, engine.tasks_at_once(batch), batch.slice(0, 1)
    by_steps = None
    if isinstance(engine, ChunkedEngine) and isinstance(inner, Unrolled):
        by_steps = tasks * _of_task(replace(engine, inner=replace(inner, checkpoint_steps=True)), one)
    return Forecast(inner.steps, tasks, tasks * _of_task(engine, one), by_steps)


def peak_bytes(function: Callable[[], Any]) -> int:
    """Peak memory, in bytes, of the tensors that `function` allocates, on any device."""
    with _LivingTensors() as living:
        function()
    return int(living.peak)


def _of_task(engine: Engine, one: TaskBatch) -> int:
    peaks = []
    # The outer step with the largest graph: where all query losses count, or where second derivatives begin.
    for outer_step in engine.inner.landmarks:
        peaks.append(peak_bytes(partial(engine.meta_gradient, one, 1, outer_step)))
        for parameter in (*engine.network.parameters(), *engine.rates.parameters()):
            parameter.grad = None
    return max(peaks)


class _LivingTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of storages that operators allocate, less those that have been freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # A view shares the storage of its base, which may have been counted or be older.
        there = {_key(tensor) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and _key(tensor) not in there | self._known:
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._known.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size


def _key(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
