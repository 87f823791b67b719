"""Settings of the inner loop, and the outer gradient that goes with them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from fewshot.backbones.norm import BatchNorm
from fewshot.errors import UserError, check_int, check_positive
from fewshot.inner.fast_weights import FastWeights, Gradients
from fewshot.inner.rates import InnerRates
from fewshot.tasks.batch import TaskBatch

WITHOUT = "!"
"""Before a pattern in `InnerLoop.adapt` of parameters that are left."""


@dataclass(frozen=True)
class InnerLoop(ABC):
    """Gradient steps on a task's support loss (Finn et al. 2017, Algorithm 1, lines 5-6).

    Subclasses have the outer gradient, with the settings that it alone has: `Unrolled` (MAML), `Implicit` (iMAML), `Reptile`.

    Attributes:
        lr: inner learning rate (alpha) on the *mean* support loss; where rates are learned, their initial value.
        steps: adaptation steps in training.
        eval_steps: adaptation steps in validation and test.
        adapt_norm: whether the scale and shift of batch normalisation are adapted too, as in learn2learn. False adapts the
            other parameters only, as in the original code; the outer loop learns all of them either way.
        adapt: which parameters are adapted, as patterns of their names (``head.*``), one after another; those behind ``!`` are
            left where there are any (``*``, ``!head.*``), so that a recipe suits several networks. Frozen ones (without
            ``requires_grad``) are left, unless a pattern names nothing else.
        proximal: strength (lambda) of the pull back to where a task began: ``lambda / 2 * |weights - start|^2`` is added to its
            support loss (iMAML, Rajeswaran et al. 2019, equation 3).
        task_chunk: largest number of tasks in memory together; None leaves it to the engine.
    """

    lr: float
    steps: int
    eval_steps: int
    adapt_norm: bool = False
    adapt: Sequence[str] = ("*",)
    proximal: float = 0.0
    task_chunk: int | None = None

    def __post_init__(self) -> None:
        check_positive("model.inner.lr", self.lr)
        check_int("model.inner.steps", self.steps, least=1)
        check_int("model.inner.eval_steps", self.eval_steps, least=0)
        if self.task_chunk is not None:
            check_int("model.inner.task_chunk", self.task_chunk, least=1)
        if self.proximal != 0:
            check_positive("model.inner.proximal", self.proximal)

    @abstractmethod
    def outer_gradients(
        self, weights: FastWeights, chunk: TaskBatch, tasks: int, outer_step: int
    ) -> tuple[Tensor, Tensor, Gradients]:
        """Adapts to some tasks, and differentiates what came of it.

        Args:
            weights: of the tasks.
            chunk: tasks to adapt to, all of them together.
            tasks: number of tasks that the summed query losses are divided by.
            outer_step: 0, 1, ...

        Returns:
            query losses ``(T,)``, query outputs ``(T, N*Q, outputs)``, and the gradients of ``weights.learned(chunk)``.
        """

    def trajectory(self, weights: FastWeights, chunk: TaskBatch, steps: int) -> Iterator[list[Tensor]]:
        """The fast weights before adaptation and after each step in validation and test, detached from the graph."""
        return weights.gradient_descent(chunk, steps)

    def adaptation_path(self, weights: FastWeights, chunk: TaskBatch, steps: int) -> Tensor:
        """Query outputs of a chunk before adaptation and after each step ``(T, steps+1, N*Q, outputs)``."""
        outputs = []
        for done, fast in enumerate(self.trajectory(weights, chunk, steps)):
            with torch.no_grad():
                outputs.append(weights.query_outputs_after(done, fast, chunk))
        return torch.stack(outputs, dim=1)

    def new_rates(self, network: nn.Module) -> InnerRates:
        """The learning rates of the parameters that are adapted."""
        return InnerRates(self._adapted_parameters(network), self.lr, self.steps)

    def adapted_names(self, network: nn.Module) -> list[str]:
        """The names of the parameters that are adapted."""
        return [name for (name, _), yes in zip(network.named_parameters(), self.adapted(network), strict=True) if yes]

    def _adapted_parameters(self, network: nn.Module) -> list[nn.Parameter]:
        return [network.get_parameter(name) for name in self.adapted_names(network)]

    @property
    def landmarks(self) -> tuple[int, ...]:
        """The outer steps with the largest graphs; the last of them has second derivatives where any has."""
        return (0,)

    @property
    def description(self) -> dict[str, Any]:
        """Its entries in the protocol of a result: plain values."""
        return {
            "order": 2,
            "inner_lr": self.lr,
            "train_steps": self.steps,
            "eval_steps": self.eval_steps,
            "adapt_norm": self.adapt_norm,
            "adapt": list(self.adapt),
            "inner_rates": "fixed",
            "inner_transform": "none",
            "inner_optimizer": "SGD",
        }

    def adapted(self, network: nn.Module) -> list[bool]:
        """For each of `network.parameters()`, whether the inner loop changes it.

        Raises:
            UserError: a pattern names nothing, or no parameter would be adapted.
        """
        norm = {id(p) for m in network.modules() if isinstance(m, BatchNorm) for p in m.parameters()}
        every_name = list(network.named_parameters(remove_duplicate=False))
        chosen: set[int] = set()
        for pattern in self.adapt:
            name_of = pattern.removeprefix(WITHOUT)
            named = [p for name, p in every_name if fnmatchcase(name, name_of) and (self.adapt_norm or id(p) not in norm)]
            if not named and not pattern.startswith(WITHOUT):
                names = ", ".join(sorted({name.split(".")[0] for name, _ in network.named_parameters()}))
                raise UserError(
                    f"model.inner.adapt={list(self.adapt)}: {pattern} names no parameter that may be adapted; those of this "
                    f"network begin with {names}"
                )
            ids = {id(p) for p in [p for p in named if p.requires_grad] or named}
            chosen = chosen - ids if pattern.startswith(WITHOUT) else chosen | ids
        if not chosen:
            raise UserError(f"model.inner.adapt={list(self.adapt)} leaves no parameter; name one")
        return [id(parameter) in chosen for parameter in network.parameters()]
