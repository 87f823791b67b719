"""Fast weights: the parameters of each task, as tensors outside the network, which serves as a function of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewshot.backbones.norm import norm_mode
from fewshot.inner.call import Call
from fewshot.inner.rates import InnerRates
from fewshot.tasks.batch import TaskBatch

Loss = Callable[[Tensor, Tensor], Tensor]
"""Mean loss over rows, from outputs and targets."""

TaskInit = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""Initial values of some of a task's parameters, by name, from its support inputs ``(N*K, ...)`` and targets ``(N*K,)``;
differentiable with respect to the network's other parameters."""

Gradients = Sequence[Tensor | None]
"""Of the outer loop's parameters; None where nothing depends on one."""


@dataclass(eq=False, repr=False)
class FastWeights(ABC):
    """What inner and outer gradients are made of, for a chunk of tasks that are computed at once.

    The support losses of the tasks are summed before they are differentiated: each loss depends on the fast weights of its own
    task alone, so the gradient of the sum holds each task's gradient.

    Args:
        network: maps inputs to outputs; not to be called by two threads at the same time.
        names: of the parameters that tasks adapt.
        rates: of these parameters.
        loss: of support set and query set.
        batch_norm: ``transductive`` or ``inductive`` (`fewshot.inner.engine.Engine`).
        proximal: strength of the pull back to where a task began.
        task_init: computes a task's initial values of some parameters; None starts from the network's own for all.

    Attributes:
        stacked: whether fast weights have a leading dimension of tasks.
        adapted: parameters that tasks adapt, by name.
        outer: parameters that the outer loop learns: those of the network, then those of the rates.
        call: the network as a function of weights by name and inputs.
    """

    network: nn.Module
    names: Sequence[str]
    rates: InnerRates
    loss: Loss
    batch_norm: str
    proximal: float
    task_init: TaskInit | None

    stacked = False

    def __post_init__(self) -> None:
        named = dict(self.network.named_parameters())
        self.adapted = {name: parameter for name, parameter in named.items() if name in self.names}
        self._shared = {name: parameter for name, parameter in named.items() if name not in self.names}
        self.outer = [p for p in (*named.values(), *self.rates.parameters()) if p.requires_grad]
        self.call = Call(self.network)

    def start(self, chunk: TaskBatch) -> list[Tensor]:
        """The fast weights before adaptation, a function of the outer loop's parameters."""
        init = self.init_tasks(chunk)
        fast = [init[name] if name in init else self.stack(p, len(chunk)) for name, p in self.adapted.items()]
        return [weight if weight.requires_grad else weight.detach().requires_grad_() for weight in fast]

    def support_gradients(self, fast: list[Tensor], step: int, chunk: TaskBatch, second_order: bool) -> Sequence[Tensor]:
        """Gradients of the support losses at a step (Algorithm 1, line 5); 0 for weights that no output depends on."""
        with norm_mode(step=step):
            loss = self.losses(self.outputs(fast, chunk.support_x), chunk.support_y).sum()
        gradients = torch.autograd.grad(loss, fast, create_graph=second_order, materialize_grads=True)
        if not self.proximal:
            return gradients
        anchors = self.start(chunk)
        return [
            gradient + self.proximal * (weight - anchor)
            for gradient, weight, anchor in zip(gradients, fast, anchors, strict=True)
        ]

    def step(self, fast: list[Tensor], step: int, chunk: TaskBatch, second_order: bool) -> list[Tensor]:
        """One inner step (Algorithm 1, line 6)."""
        gradients = self.rates.transformed(self.support_gradients(fast, step, chunk, second_order))
        return [
            torch.sub(weight, gradient, alpha=rate) if isinstance(rate, float) else weight - rate * gradient
            for weight, gradient, rate in zip(fast, gradients, self.rates.at(step), strict=True)
        ]

    def gradient_descent(self, chunk: TaskBatch, steps: int) -> Iterator[list[Tensor]]:
        """The fast weights before adaptation and after each step, detached from the graph."""
        with torch.no_grad():
            fast = [weight.detach() for weight in self.start(chunk)]
        yield fast
        for step in range(steps):
            with torch.enable_grad():
                leaves = [weight.detach().requires_grad_() for weight in fast]
                fast = [weight.detach() for weight in self.step(leaves, step, chunk, second_order=False)]
            yield fast

    def query_outputs_after(self, steps: int, fast: Sequence[Tensor], chunk: TaskBatch) -> Tensor:
        """Outputs for the query sets ``(T, N*Q, outputs)`` after a number of steps."""
        with norm_mode(step=max(steps - 1, 0)):
            return self.query_outputs(fast, chunk)

    def query_gradients(
        self, fast: Sequence[Tensor], steps: int, chunk: TaskBatch, tasks: int
    ) -> tuple[Tensor, Tensor, list[Tensor], Gradients]:
        """Query losses and outputs after a number of steps, and gradients with respect to fast weights and to `learned`."""
        leaves = [weight.requires_grad_() for weight in fast]
        outputs = self.query_outputs_after(steps, leaves, chunk)
        losses = self.losses(outputs, chunk.query_y)
        found = torch.autograd.grad(losses.sum() / tasks, [*leaves, *self.learned(chunk)], allow_unused=True)
        return losses.detach(), outputs.detach(), *split_gradients(found, leaves)

    def learned(self, chunk: TaskBatch) -> list[Tensor]:
        """Tensors that outer gradients are taken with respect to: `outer`, then inputs that are features of a learned body."""
        return [*self.outer, *(x for x in (chunk.support_x, chunk.query_x) if x.requires_grad)]

    def weights(self, fast: Sequence[Tensor]) -> dict[str, Tensor]:
        """All parameters of the network by name, the adapted ones replaced by fast weights."""
        return {**self._shared, **dict(zip(self.adapted, fast, strict=True))}

    @abstractmethod
    def prepared(self, chunk: TaskBatch) -> TaskBatch:
        """The tasks in the memory layout that is fastest here."""

    @abstractmethod
    def init_tasks(self, chunk: TaskBatch) -> dict[str, Tensor]:
        """Initial values from `task_init`, by name, as fast weights of the tasks."""

    @abstractmethod
    def stack(self, parameter: Tensor, tasks: int) -> Tensor:
        """A parameter of the network as fast weights of `tasks` tasks."""

    @abstractmethod
    def outputs(self, fast: Sequence[Tensor], x: Tensor) -> Tensor:
        """Outputs ``(T, B, outputs)`` of the network for inputs ``(T, B, ...)``, with each task's own fast weights."""

    @abstractmethod
    def query_outputs(self, fast: Sequence[Tensor], chunk: TaskBatch) -> Tensor:
        """Outputs for the query sets ``(T, N*Q, outputs)``, normalised as `batch_norm` has it."""

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Each task's mean loss ``(T,)``."""

    @abstractmethod
    def body_features(self, body: nn.Module, chunk: TaskBatch) -> tuple[Tensor, Tensor]:
        """Features of support and query sets ``(T, N*K, ...)``, ``(T, N*Q, ...)`` from layers that no task adapts."""


def split_gradients(found: Gradients, fast: Sequence[Tensor]) -> tuple[list[Tensor], Gradients]:
    """Gradients of the fast weights, 0 where no output depends on one, and those of the outer loop's parameters."""
    of_fast = zip(fast, found, strict=False)
    return [torch.zeros_like(weight) if g is None else g for weight, g in of_fast], found[len(fast) :]


def add(a: Gradients, b: Gradients) -> list[Tensor | None]:
    """The sum of the gradients of several parameters."""
    return [y if x is None else x if y is None else x + y for x, y in zip(a, b, strict=True)]
