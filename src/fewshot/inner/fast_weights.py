"""The inner loop over explicit fast weights: what the engines share that do not copy the network."""

import logging
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fewshot.inner.engine import Engine, Loss
from fewshot.inner.loop import InnerLoop
from fewshot.inner.rates import InnerRates
from fewshot.tasks import TaskBatch

log = logging.getLogger(__name__)

Gradients = list[Tensor | None]


class FastWeightsEngine(Engine):
    """Adapts a few tasks at once; their fast weights are tensors of their own, the network is only a function of them.

    The support losses of the tasks are added up before they are differentiated: each depends on its own task's fast weights
    alone, so the gradient of the sum holds every task's own gradient.
    """

    def __init__(self, network: nn.Module, inner: InnerLoop, rates: InnerRates, loss: Loss, batch_norm: str) -> None:
        super().__init__(network, inner, rates, loss, batch_norm)
        named = list(zip(network.named_parameters(), inner.adapted(network), strict=True))
        self._adapted = {name: parameter for (name, parameter), adapted in named if adapted}
        self._shared = {name: parameter for (name, parameter), adapted in named if not adapted}
        self._outer = [*network.parameters(), *rates.learned]
        self._chunk = inner.task_chunk

    @abstractmethod
    def start(self, tasks: int) -> list[Tensor]:
        """The fast weights of `tasks` tasks before adaptation, a function of the network's parameters."""

    @abstractmethod
    def outputs(self, fast: Sequence[Tensor], x: Tensor) -> Tensor:
        """The network's outputs ``(T, B, outputs)`` for inputs ``(T, B, ...)``, each task's by its own fast weights."""

    @abstractmethod
    def queries(self, fast: Sequence[Tensor], chunk: TaskBatch) -> Tensor:
        """The outputs for the query sets ``(T, N*Q, outputs)``, normalised as `batch_norm` says."""

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Each task's mean loss ``(T,)``."""

    def prepared(self, batch: TaskBatch) -> TaskBatch:
        """The tasks laid out in memory as is best for this engine."""
        return batch

    def meta_gradient(self, batch: TaskBatch, tasks: int) -> tuple[Tensor, Tensor]:
        gradient = self._step_by_step if self.inner.checkpoint_steps else self._unrolled
        results, done = [], 0
        while done < len(batch):
            size = min(self.tasks_at_once(batch), len(batch) - done)
            try:
                losses, outputs, gradients = gradient(self.prepared(batch.slice(done, done + size)), tasks)
            except RuntimeError as error:
                if size == 1 or not _is_out_of_memory(error):
                    raise
                self._halve(size)
                continue
            # Only now, so that a chunk that ran out of memory has left nothing.
            for parameter, of_chunk in zip(self._outer, gradients, strict=True):
                if of_chunk is not None:
                    parameter.grad = of_chunk if parameter.grad is None else parameter.grad + of_chunk
            results.append((losses, outputs))
            done += size
        all_losses, all_outputs = zip(*results, strict=True)
        return torch.cat(all_losses), torch.cat(all_outputs)

    def adaptation_path(self, batch: TaskBatch, steps: int) -> Tensor:
        paths, size = [], self.tasks_at_once(batch)
        for first in range(0, len(batch), size):
            chunk = self.prepared(batch.slice(first, first + size))
            with torch.no_grad():
                fast = self.start(len(chunk))
                path = [self.queries(fast, chunk)]
            for step in range(steps):
                fast = self._without_graph(fast, step, chunk)
                with torch.no_grad():
                    path.append(self.queries(fast, chunk))
            paths.append(torch.stack(path, dim=1))
        return torch.cat(paths)

    def tasks_at_once(self, batch: TaskBatch) -> int:
        return min(self._chunk or len(batch), len(batch))

    def weights(self, fast: Sequence[Tensor]) -> dict[str, Tensor]:
        """All parameters of the network by name, the adapted ones replaced by fast weights."""
        return {**self._shared, **dict(zip(self._adapted, fast, strict=True))}

    def _step(self, fast: list[Tensor], step: int, chunk: TaskBatch, second_order: bool) -> list[Tensor]:
        """One inner step (Algorithm 1, line 6)."""
        loss = self.losses(self.outputs(fast, chunk.support_x), chunk.support_y).sum()
        slopes = torch.autograd.grad(loss, fast, create_graph=second_order)
        return [
            torch.sub(weight, slope, alpha=rate) if isinstance(rate, float) else weight - rate * slope
            for weight, slope, rate in zip(fast, slopes, self.rates.at(step), strict=True)
        ]

    def _without_graph(self, fast: list[Tensor], step: int, chunk: TaskBatch) -> list[Tensor]:
        """One inner step that remembers nothing."""
        with torch.enable_grad():
            leaves = [weight.detach().requires_grad_() for weight in fast]
            return [weight.detach() for weight in self._step(leaves, step, chunk, second_order=False)]

    def _unrolled(self, chunk: TaskBatch, tasks: int) -> tuple[Tensor, Tensor, Gradients]:
        """Losses, outputs and outer gradients of some tasks, by differentiating through all steps at once."""
        fast = self.start(len(chunk))
        for step in range(self.inner.steps):
            fast = self._step(fast, step, chunk, second_order=not self.inner.first_order)
        outputs = self.queries(fast, chunk)
        losses = self.losses(outputs, chunk.query_y)
        gradients = torch.autograd.grad(losses.sum() / tasks, self._outer, allow_unused=True)
        return losses.detach(), outputs.detach(), list(gradients)

    def _step_by_step(self, chunk: TaskBatch, tasks: int) -> tuple[Tensor, Tensor, Gradients]:
        """The same with the graph of one step at a time, each computed anew where the outer gradient passes through it.

        Reverse-mode differentiation by hand (Griewank & Walther 2008, chapter 12): only the weights between the steps are kept.
        """
        path = [[weight.detach() for weight in self.start(len(chunk))]]
        for step in range(self.inner.steps):
            path.append(self._without_graph(path[-1], step, chunk))
        last = [weight.requires_grad_() for weight in path.pop()]
        outputs = self.queries(last, chunk)
        losses = self.losses(outputs, chunk.query_y)
        inputs = [*last, *self._outer]
        towards, total = self._split(torch.autograd.grad(losses.sum() / tasks, inputs, allow_unused=True), len(last))
        losses, outputs = losses.detach(), outputs.detach()
        while path:
            leaves = [weight.requires_grad_() for weight in path.pop()]
            after = self._step(leaves, len(path), chunk, second_order=not self.inner.first_order)
            found = torch.autograd.grad(after, [*leaves, *self._outer], towards, allow_unused=True)
            towards, more = self._split(found, len(leaves))
            total = [_plus(a, b) for a, b in zip(total, more, strict=True)]
        found = torch.autograd.grad(self.start(len(chunk)), self._outer, towards, allow_unused=True)
        return losses, outputs, [_plus(a, b) for a, b in zip(total, found, strict=True)]

    @staticmethod
    def _split(gradients: Sequence[Tensor | None], fast: int) -> tuple[list[Tensor], Gradients]:
        """Those of the fast weights, and those of the outer loop's parameters."""
        return [gradient for gradient in gradients[:fast] if gradient is not None], list(gradients[fast:])

    def _halve(self, size: int) -> None:
        self._chunk = size // 2
        log.warning(
            f"Out of memory with {size} tasks at once: {self._chunk} from now on (model.inner.task_chunk={self._chunk}; "
            "model.inner.checkpoint_steps=true needs less)"
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _plus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


def _is_out_of_memory(error: RuntimeError) -> bool:
    """On a GPU PyTorch has a class for it; on a CPU it has words."""
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error)
