"""The inner loop over explicit fast weights, shared by the engines that do not copy the network."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from fewshot.backbones.norm import adaptation_step
from fewshot.inner.call import Call
from fewshot.inner.engine import Engine
from fewshot.inner.minibatches import shuffled_rows
from fewshot.tasks.batch import TaskBatch

Gradients = list[Tensor | None]


class FastWeights(Engine):
    """Adapts a few tasks at once; fast weights are tensors outside the network, which serves as a function of them.

    The support losses of the tasks are summed before they are differentiated: each loss depends on the fast weights of its own
    task alone, so the gradient of the sum holds each task's gradient.

    Attributes:
        adapted: parameters that the inner loop changes, by name.
        outer: parameters that the outer loop learns: those of the network, then those of the rates.
        call: the network as a function of weights by name and inputs.
        stacked: whether fast weights have a leading dimension of tasks.
    """

    stacked: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        named = list(zip(self.network.named_parameters(), self.inner.adapted(self.network), strict=True))
        self.adapted = {name: parameter for (name, parameter), adapted in named if adapted}
        self._shared = {name: parameter for (name, parameter), adapted in named if not adapted}
        self.call = Call(self.network)
        self.outer = [p for p in (*self.network.parameters(), *self.rates.parameters()) if p.requires_grad]

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
    def queries(self, fast: Sequence[Tensor], chunk: TaskBatch) -> Tensor:
        """Outputs for the query sets ``(T, N*Q, outputs)``, normalised as `batch_norm` says."""

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Each task's mean loss ``(T,)``."""

    @abstractmethod
    def embedded(self, body: nn.Module, chunk: TaskBatch) -> tuple[Tensor, Tensor]:
        """Features of support and query sets ``(T, N*K, ...)``, ``(T, N*Q, ...)`` from layers that no task adapts."""

    @abstractmethod
    def outer_gradients(self, chunk: TaskBatch, tasks: int, outer_step: int) -> tuple[Tensor, Tensor, Gradients]:
        """Query losses and outputs of a chunk, and gradients of the summed losses over `tasks` with respect to `learned`."""

    def learned(self, chunk: TaskBatch) -> list[Tensor]:
        """Tensors that outer gradients are taken with respect to: `outer`, then inputs that are features of a learned body."""
        return [*self.outer, *(x for x in (chunk.support_x, chunk.query_x) if x.requires_grad)]

    def prepared(self, batch: TaskBatch) -> TaskBatch:
        """The tasks in the memory layout that is fastest for this engine."""
        return batch

    def start(self, chunk: TaskBatch) -> list[Tensor]:
        """The fast weights before adaptation, a function of the outer loop's parameters."""
        init = self.init_tasks(chunk)
        fast = [init[name] if name in init else self.stack(p, len(chunk)) for name, p in self.adapted.items()]
        return [weight if weight.requires_grad else weight.detach().requires_grad_() for weight in fast]

    def queries_after(self, steps: int, fast: Sequence[Tensor], chunk: TaskBatch) -> Tensor:
        """Outputs for the query sets ``(T, N*Q, outputs)`` after a number of steps."""
        with adaptation_step(max(steps - 1, 0)):
            return self.queries(fast, chunk)

    def weights(self, fast: Sequence[Tensor]) -> dict[str, Tensor]:
        """All parameters of the network by name, the adapted ones replaced by fast weights."""
        return {**self._shared, **dict(zip(self.adapted, fast, strict=True))}

    def support_gradients(self, fast: list[Tensor], step: int, chunk: TaskBatch, second_order: bool) -> Sequence[Tensor]:
        """Gradients of the support losses at a step (Algorithm 1, line 5); 0 for weights that no output depends on."""
        with adaptation_step(step):
            loss = self.losses(self.outputs(fast, chunk.support_x), chunk.support_y).sum()
        gradients = torch.autograd.grad(loss, fast, create_graph=second_order, materialize_grads=True)
        if not self.inner.proximal:
            return gradients
        anchors = self.start(chunk)
        return [
            gradient + self.inner.proximal * (weight - anchor)
            for gradient, weight, anchor in zip(gradients, fast, anchors, strict=True)
        ]

    def step(self, fast: list[Tensor], step: int, chunk: TaskBatch, second_order: bool) -> list[Tensor]:
        """One inner step (Algorithm 1, line 6)."""
        gradients = self.rates.transformed(self.support_gradients(fast, step, chunk, second_order))
        return [
            torch.sub(weight, gradient, alpha=rate) if isinstance(rate, float) else weight - rate * gradient
            for weight, gradient, rate in zip(fast, gradients, self.rates.at(step), strict=True)
        ]

    def trajectory(self, chunk: TaskBatch, steps: int, batch_size: int | None = None) -> Iterator[list[Tensor]]:
        """The fast weights before adaptation and after each step, detached from the graph."""
        with torch.no_grad():
            fast = [weight.detach() for weight in self.start(chunk)]
        yield fast
        optimizer: torch.optim.Optimizer | None = None
        if self.inner.optimizer is not None:
            fast = [weight.clone() for weight in fast]
            optimizer = self.inner.optimizer(fast, lr=self.inner.lr)
        for step, part in enumerate(self._parts(chunk, steps, batch_size)):
            with torch.enable_grad():
                leaves = [weight.detach().requires_grad_() for weight in fast]
                if optimizer is None:
                    fast = [weight.detach() for weight in self.step(leaves, step, part, second_order=False)]
                else:
                    for weight, gradient in zip(
                        fast, self.support_gradients(leaves, step, part, second_order=False), strict=True
                    ):
                        weight.grad = gradient.detach()
                    optimizer.step()
            yield fast if optimizer is None else [weight.clone() for weight in fast]

    def path(self, chunk: TaskBatch, steps: int) -> Tensor:
        """Query outputs of a chunk before adaptation and after each step ``(T, steps+1, N*Q, outputs)``."""
        path = []
        for done, fast in enumerate(self.trajectory(chunk, steps, self.inner.eval_batch_size)):
            with torch.no_grad():
                path.append(self.queries_after(done, fast, chunk))
        return torch.stack(path, dim=1)

    @staticmethod
    def _parts(chunk: TaskBatch, steps: int, batch_size: int | None) -> Iterator[TaskBatch]:
        """The part of the support set for each step: all of it, or a mini-batch."""
        if batch_size is None:
            yield from [chunk] * steps
            return
        rows = shuffled_rows(chunk.index.tolist(), chunk.support_y.shape[1], batch_size, steps)
        tasks = torch.arange(len(chunk))[:, None]
        for of_step in rows.to(chunk.support_x.device).unbind(1):
            yield replace(chunk, support_x=chunk.support_x[tasks, of_step], support_y=chunk.support_y[tasks, of_step])
