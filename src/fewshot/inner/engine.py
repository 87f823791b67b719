"""The interface of inner-loop engines, and the code that all of them share."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

import fewshot.inner
from fewshot.backbones.norm import statistics_from_first
from fewshot.errors import UserError, suggest
from fewshot.inner.inner_loop import InnerLoop
from fewshot.inner.rates import InnerRates
from fewshot.tasks.batch import TaskBatch

Loss = Callable[[Tensor, Tensor], Tensor]
"""Mean loss over rows, from outputs and targets."""

TaskInit = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""Initial values of some of a task's parameters, by name, from its support inputs ``(N*K, ...)`` and targets ``(N*K,)``;
differentiable with respect to the network's other parameters."""

Kind = TypeVar("Kind", bound="Engine")

BATCH_NORM_MODES = ("transductive", "inductive")


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

    def copy_as(self, kind: "type[Kind]", **changes: Any) -> "Kind":
        """A new engine of a given class with the same fields, apart from some changes."""
        return kind(**{part.name: getattr(self, part.name) for part in fields(self) if part.init} | changes)

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

    def chosen(self, batch: TaskBatch) -> "Engine":
        """The engine that computes such tasks: itself, except for the engine ``auto``."""
        return self

    def query_outputs(self, network: Callable[[Tensor], Tensor], support_x: Tensor, query_x: Tensor) -> Tensor:
        """A network's outputs for one task's query set ``(N*Q, outputs)``, normalised as `batch_norm` says."""
        if self.batch_norm == "transductive":
            return network(query_x)
        support = len(support_x)
        with statistics_from_first(support):
            return network(torch.cat([support_x, query_x]))[support:]

    def features(self, body: Callable[[Tensor], Tensor], support_x: Tensor, query_x: Tensor) -> tuple[Tensor, Tensor]:
        """Features of support and query set from layers that no task adapts, normalised as `batch_norm` says."""
        if self.batch_norm == "transductive":
            return body(support_x), body(query_x)
        support = len(support_x)
        with statistics_from_first(support):
            features = body(torch.cat([support_x, query_x]))
        return features[:support], features[support:]


def engine_names() -> list[str]:
    """Names of all engines: modules ``fewshot.inner.<name>_engine``."""
    return [m.name.removesuffix("_engine") for m in iter_modules(fewshot.inner.__path__) if m.name.endswith("_engine")]


def engine_kind(name: str) -> type[Engine]:
    """The engine of module ``fewshot.inner.<name>_engine``.

    Raises:
        UserError: no such engine.
    """
    if name not in engine_names():
        raise UserError(f"model.engine={name} is unknown{suggest(name, engine_names())}")
    kind: type[Engine] = import_module(f"fewshot.inner.{name}_engine").ENGINE
    return kind
