"""The interface of inner-loop engines, and the choice among them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import iter_modules

from torch import Tensor, nn

import fewshot.inner
from fewshot.errors import UserError, suggest
from fewshot.inner.fast_weights import FastWeights, Loss, TaskInit
from fewshot.inner.inner_loop import InnerLoop
from fewshot.inner.rates import InnerRates
from fewshot.tasks.batch import TaskBatch

BATCH_NORM_MODES = ("transductive", "inductive")
AUTO = "auto"
"""Name of no engine: `fastest_engine` chooses one for each batch."""
LARGE = 2**16
"""Input elements of one task (support and query); above it, a CPU is faster with one task per operation."""


@dataclass(eq=False, repr=False)
class Engine(ABC):
    """Adapts a network to the tasks of a meta-batch.

    Args:
        network: maps inputs to outputs; its parameters belong to the outer loop and are never changed here. The outer loop
            does not learn a parameter without ``requires_grad``: each task starts from its value.
        inner: the settings of the inner loop.
        rates: learning rates of the inner loop; the outer loop learns those that are parameters.
        loss: loss of the support set (inner loop) and of the query set (outer loop).
        batch_norm: ``transductive``: support and query are each normalised by their own batch, so a query's prediction depends
            on the other queries (as published). ``inductive``: queries are normalised by the support set, one at a time or
            together alike.
        task_init: computes a task's initial values of some parameters; None starts from the network's own for all.

    Attributes:
        name: value of ``model.engine`` that selects it.
    """

    name: str = field(init=False)
    network: nn.Module
    inner: InnerLoop
    rates: InnerRates
    loss: Loss
    batch_norm: str
    task_init: TaskInit | None = None

    def __post_init__(self) -> None:
        if self.batch_norm not in BATCH_NORM_MODES:
            raise UserError(f"model.batch_norm={self.batch_norm} is unknown{suggest(self.batch_norm, BATCH_NORM_MODES)}")

    @abstractmethod
    def meta_gradient(self, batch: TaskBatch, tasks: int, outer_step: int = 0) -> tuple[Tensor, Tensor]:
        """Adds the gradient of the summed query losses, divided by `tasks`, to ``.grad`` of network and learned rates.

        Args:
            batch: tasks to adapt to.
            tasks: number of tasks that the summed losses are divided by: those of the meta-batch in this process.
            outer_step: 0, 1, ...; position in the annealing schedules, if there are any.

        Returns:
            query losses ``(T,)`` and query outputs ``(T, N*Q, outputs)``, both after adaptation and detached.
        """

    @abstractmethod
    def adaptation_path(self, batch: TaskBatch, steps: int) -> Tensor:
        """Query outputs before adaptation and after each step, ``(T, steps+1, N*Q, outputs)``; keeps no outer graph.

        Works with gradients disabled around it, though not in inference mode.
        """

    def tasks_at_once(self, batch: TaskBatch) -> int:
        """Number of tasks of a meta-batch that are in memory together."""
        return 1

    def fast_weights(self, kind: type[FastWeights], network: nn.Module) -> FastWeights:
        """Fast weights of a network like the engine's."""
        names = self.inner.adapted_names(network)
        return kind(network, names, self.rates, self.loss, self.batch_norm, self.inner.proximal, self.task_init)


def fastest_engine(batch: TaskBatch) -> str:
    """The name of the fastest engine for tasks of this shape on this device, by a measured rule (docs/performance.md)."""
    elements = batch.support_x[0].numel() + batch.query_x[0].numel()
    return "functional" if batch.support_x.device.type == "cpu" and elements > LARGE else "vectorized"


def engine_kind(name: str) -> type[Engine]:
    """The engine of module ``fewshot.inner.<name>_engine``.

    Raises:
        UserError: no such engine.
    """
    names = [m.name.removesuffix("_engine") for m in iter_modules(fewshot.inner.__path__) if m.name.endswith("_engine")]
    if name not in names:
        raise UserError(f"model.engine={name} is unknown{suggest(name, [AUTO, *names])}")
    kind: type[Engine] = import_module(f"fewshot.inner.{name}_engine").ENGINE
    return kind
