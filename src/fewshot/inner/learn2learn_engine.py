"""The reference engine: learn2learn adapts one task after another."""

from typing import Any

import torch
from torch import Tensor, nn

from fewshot.errors import UserError
from fewshot.inner.engine import Engine, Loss
from fewshot.inner.loop import InnerLoop
from fewshot.inner.rates import InnerRates
from fewshot.tasks import TaskBatch


class Learn2LearnEngine(Engine):
    """Wraps ``learn2learn.algorithms.MAML`` (Arnold et al. 2020): a clone of the network for each task.

    Raises:
        UserError: it is to checkpoint steps, which learn2learn cannot.
    """

    name = "learn2learn"

    def __init__(self, network: nn.Module, inner: InnerLoop, rates: InnerRates, loss: Loss, batch_norm: str) -> None:
        super().__init__(network, inner, rates, loss, batch_norm)
        if inner.checkpoint_steps:
            raise UserError("model.inner.checkpoint_steps=true but learn2learn keeps every step; set model.engine=auto")
        maml = _import_quietly()
        self._update = maml.maml_update
        self._maml = maml.MAML(network, lr=inner.lr, first_order=inner.first_order)
        self._adapted = inner.adapted(network)

    def meta_gradient(self, batch: TaskBatch, tasks: int) -> tuple[Tensor, Tensor]:
        losses, outputs = [], []
        for task in batch:
            learner = self._maml.clone()
            for step in range(self.inner.steps):
                self._adapt(learner, step, task, second_order=not self.inner.first_order)
            query = self.query_outputs(learner, task.support_x, task.query_x)
            loss = self.loss(query, task.query_y)
            # One task's graph at a time: backward frees it before the next task's is built.
            torch.autograd.backward(loss / tasks)
            losses.append(loss.detach())
            outputs.append(query.detach())
        return torch.stack(losses), torch.stack(outputs)

    def adaptation_path(self, batch: TaskBatch, steps: int) -> Tensor:
        paths = []
        for task in batch:
            with torch.enable_grad():
                learner = self._maml.clone(first_order=True)
            path = []
            for step in range(steps + 1):
                if step:
                    with torch.enable_grad():
                        self._adapt(learner, step - 1, task, second_order=False)
                with torch.no_grad():
                    path.append(self.query_outputs(learner, task.support_x, task.query_x))
            paths.append(torch.stack(path))
        return torch.stack(paths)

    def _adapt(self, learner: nn.Module, step: int, task: TaskBatch, second_order: bool) -> None:
        """One inner step: what ``learner.adapt(loss)`` does, but of what is adapted alone and at its rates."""
        parameters = list(learner.parameters())
        loss = self.loss(learner(task.support_x), task.support_y)
        chosen = [parameter for parameter, adapted in zip(parameters, self._adapted, strict=True) if adapted]
        gradients = torch.autograd.grad(loss, chosen, create_graph=second_order)
        scaled = iter([rate * gradient for rate, gradient in zip(self.rates.at(step), gradients, strict=True)])
        self._update(learner, 1.0, [next(scaled) if adapted else None for adapted in self._adapted])


build = Learn2LearnEngine


def _import_quietly() -> Any:
    """learn2learn's MAML module; its import of gym would print a notice that concerns no user of this project."""
    try:
        from gym_notices import notices

        notices.notices.clear()
    except ImportError:
        pass  # without the notices there is nothing to keep quiet
    from learn2learn.algorithms import maml

    return maml
