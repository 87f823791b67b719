"""Chooses the fastest engine for a task size and a device, by a measured rule (docs/performance.md)."""

import logging

from torch import Tensor

from fewshot.inner.engine import Engine
from fewshot.inner.functional_engine import FunctionalEngine
from fewshot.inner.vectorized_engine import VectorizedEngine
from fewshot.tasks.batch import TaskBatch

log = logging.getLogger(__name__)

LARGE = 2**16
"""Input elements of one task (support and query); above it, a CPU is faster with one task per operation."""


class AutoEngine(Engine):
    """Chooses at the first batch, by its shape and device alone, so that a resumed run makes the same choice."""

    name = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._engine: Engine | None = None

    def meta_gradient(self, batch: TaskBatch, tasks: int, outer_step: int = 0) -> tuple[Tensor, Tensor]:
        return self.chosen(batch).meta_gradient(batch, tasks, outer_step)

    def adaptation_path(self, batch: TaskBatch, steps: int) -> Tensor:
        return self._choose(batch).adaptation_path(batch, steps)

    def tasks_at_once(self, batch: TaskBatch) -> int:
        return self.chosen(batch).tasks_at_once(batch)

    def chosen(self, batch: TaskBatch) -> Engine:
        if self._engine is None:
            engine, x = self._choose(batch), batch.support_x
            shape, rows = "x".join(str(size) for size in x.shape[2:]), x.shape[1] + batch.query_x.shape[1]
            log.info(f"Inner loop: model.engine={engine.name}, chosen for {rows} inputs of {shape} on {x.device.type}")
        return self._choose(batch)

    def _choose(self, batch: TaskBatch) -> Engine:
        if self._engine is None:
            kind = engine_for(batch)
            self._engine = self.copy_as(kind)
            self.name = kind.name
        return self._engine


def engine_for(batch: TaskBatch) -> type[FunctionalEngine] | type[VectorizedEngine]:
    """The faster engine for tasks of this shape on this device."""
    elements = batch.support_x[0].numel() + batch.query_x[0].numel()
    on_cpu = batch.support_x.device.type == "cpu"
    return FunctionalEngine if on_cpu and elements > LARGE else VectorizedEngine


ENGINE = AutoEngine
