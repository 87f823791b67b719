"""The inner loop over explicit fast weights: what the engines share that do not copy the network."""

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
    """Adapts a few tasks at once; their fast weights are tensors of their own, the network is only a function of them.

    The support losses of the tasks are added up before they are differentiated: each depends on its own task's fast weights
    alone, so the gradient of the sum holds every task's own gradient.

    Attributes:
        adapted: the parameters that the inner loop changes, by name.
        outer: what the outer loop learns: parameters of the network, then those of the rates.
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
        """What `task_init` says of the tasks, as fast weights."""

    @abstractmethod
    def stack(self, parameter: Tensor, tasks: int) -> Tensor:
        """The network's parameter as fast weights of `tasks` tasks."""

    @abstractmethod
    def outputs(self, fast: Sequence[Tensor], x: Tensor) -> Tensor:
        """The network's outputs ``(T, B, outputs)`` for inputs ``(T, B, ...)``, each task's by its own fast weights."""

    @abstractmethod
    def queries(self, fast: Sequence[Tensor], chunk: TaskBatch) -> Tensor:
        """The outputs for the query sets ``(T, N*Q, outputs)``, normalised as `batch_norm` says."""

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Each task's mean loss ``(T,)``."""

    @abstractmethod
    def embedded(self, body: nn.Module, chunk: TaskBatch) -> tuple[Tensor, Tensor]:
        """What layers that no task adapts make of the support and query sets, ``(T, N*K, ...)`` and ``(T, N*Q, ...)``."""

    @abstractmethod
    def outer_gradients(self, chunk: TaskBatch, tasks: int, outer_step: int) -> tuple[Tensor, Tensor, Gradients]:
        """Losses and outputs of some tasks, and gradients (by `learned`) of their summed losses over the number of all."""

    def learned(self, chunk: TaskBatch) -> list[Tensor]:
        """What outer gradients are taken by: `outer`, then the inputs where they are features, which others have to learn."""
        return [*self.outer, *(x for x in (chunk.support_x, chunk.query_x) if x.requires_grad)]

    def prepared(self, batch: TaskBatch) -> TaskBatch:
        """The tasks laid out in memory as is best for this engine."""
        return batch

    def start(self, chunk: TaskBatch) -> list[Tensor]:
        """The fast weights before adaptation, a function of the outer loop's parameters."""
        init = self.init_tasks(chunk)
        fast = [init[name] if name in init else self.stack(p, len(chunk)) for name, p in self.adapted.items()]
        return [weight if weight.requires_grad else weight.detach().requires_grad_() for weight in fast]

    def queries_after(self, steps: int, fast: Sequence[Tensor], chunk: TaskBatch) -> Tensor:
        """The outputs for the query sets ``(T, N*Q, outputs)`` after so many steps."""
        with adaptation_step(max(steps - 1, 0)):
            return self.queries(fast, chunk)

    def weights(self, fast: Sequence[Tensor]) -> dict[str, Tensor]:
        """All parameters of the network by name, the adapted ones replaced by fast weights."""
        return {**self._shared, **dict(zip(self.adapted, fast, strict=True))}

    def support_gradients(self, fast: list[Tensor], step: int, chunk: TaskBatch, second_order: bool) -> Sequence[Tensor]:
        """The gradients of the support losses at a step (Algorithm 1, line 5); 0 by what no output depends on."""
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
        """The fast weights before adaptation and after each step, which remember nothing of how they came about."""
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
        """Some tasks' query outputs before adaptation and after each step ``(T, steps+1, N*Q, outputs)``."""
        path = []
        for done, fast in enumerate(self.trajectory(chunk, steps, self.inner.eval_batch_size)):
            with torch.no_grad():
                path.append(self.queries_after(done, fast, chunk))
        return torch.stack(path, dim=1)

    @staticmethod
    def _parts(chunk: TaskBatch, steps: int, batch_size: int | None) -> Iterator[TaskBatch]:
        """What each step sees of the support set."""
        if batch_size is None:
            yield from [chunk] * steps
            return
        rows = shuffled_rows(chunk.index.tolist(), chunk.support_y.shape[1], batch_size, steps)
        tasks = torch.arange(len(chunk))[:, None]
        for of_step in rows.to(chunk.support_x.device).unbind(1):
            yield replace(chunk, support_x=chunk.support_x[tasks, of_step], support_y=chunk.support_y[tasks, of_step])
