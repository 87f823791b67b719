"""The reference engine: learn2learn adapts one task after another."""

from typing import Any

import torch
from torch import Tensor, nn

from fewshot.backbones.norm import norm_mode
from fewshot.errors import UserError
from fewshot.inner.call import preserve_buffers, query_outputs, unfused_attention
from fewshot.inner.engine import Engine
from fewshot.inner.unrolled import Unrolled
from fewshot.tasks.batch import TaskBatch


class Learn2LearnEngine(Engine):
    """Wraps ``learn2learn.algorithms.MAML`` (Arnold et al. 2020): a clone of the network for each task.

    Raises:
        UserError: learn2learn cannot do it: an outer gradient that is not unrolled, or checkpointed steps.
    """

    name = "learn2learn"
    inner: Unrolled

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.inner, Unrolled):
            raise UserError(
                f"model.engine=learn2learn but {type(self.inner).__name__} does not unroll its steps; set model.engine=auto"
            )
        if self.inner.checkpoint_steps:
            raise UserError("model.inner.checkpoint_steps=true but learn2learn keeps every step; set model.engine=auto")
        maml = _import_quietly()
        self._update = maml.maml_update
        self._maml = maml.MAML(self.network, lr=self.inner.lr, first_order=self.inner.first_order)
        self._adapted = self.inner.adapted(self.network)

    @unfused_attention()
    def meta_gradient(self, batch: TaskBatch, tasks: int, outer_step: int = 0) -> tuple[Tensor, Tensor]:
        losses, outputs = [], []
        for task in batch:
            learner, start = self._begin(task)
            parts = []
            for step, weight in enumerate(self.inner.loss_weights(outer_step)):
                self._adapt(learner, start, step, task, second_order=self.inner.second_order(outer_step))
                if weight:
                    with norm_mode(step=step), preserve_buffers(learner):
                        query = query_outputs(learner, task.support_x, task.query_x, self.batch_norm)
                    loss = self.loss(query, task.query_y)
                    parts.append(weight * loss / tasks)
            # One task's graph at a time: backward frees it before the next task's is built.
            torch.autograd.backward(torch.stack(parts).sum())
            losses.append(loss.detach())
            outputs.append(query.detach())
        return torch.stack(losses), torch.stack(outputs)

    @unfused_attention()
    def adaptation_path(self, batch: TaskBatch, steps: int) -> Tensor:
        paths = []
        for task in batch:
            with torch.enable_grad():
                learner, start = self._begin(task)
            path = []
            for done in range(steps + 1):
                if done:
                    with torch.enable_grad():
                        self._adapt(learner, start, done - 1, task, second_order=False)
                with torch.no_grad(), norm_mode(step=max(done - 1, 0)), preserve_buffers(learner):
                    path.append(query_outputs(learner, task.support_x, task.query_x, self.batch_norm))
            paths.append(torch.stack(path))
        return torch.stack(paths)

    def _begin(self, task: TaskBatch) -> tuple[nn.Module, list[Tensor]]:
        """A clone of the network for a task, and its initial parameters."""
        learner: nn.Module = self._maml.clone()
        init = {} if self.task_init is None else self.task_init(task.support_x, task.support_y)
        values = {}
        for (name, parameter), adapted in zip(learner.named_parameters(), self._adapted, strict=True):
            value = init.get(name.removeprefix("module."), parameter)
            values[parameter] = value.detach().requires_grad_() if adapted and not value.requires_grad else value
        for module in learner.modules():
            # learn2learn's own update puts tensors here that are no parameters.
            held: dict[str, Any] = module._parameters
            held |= {leaf: values[parameter] for leaf, parameter in held.items() if parameter is not None}
        return learner, list(learner.parameters())

    def _adapt(self, learner: nn.Module, start: list[Tensor], step: int, task: TaskBatch, second_order: bool) -> None:
        """One inner step: ``learner.adapt(loss)``, but for the adapted parameters only, at the rates of `rates`."""
        parameters = list(learner.parameters())
        with norm_mode(step=step), preserve_buffers(learner):
            loss = self.loss(learner(task.support_x), task.support_y)
        chosen, anchors = (
            [parameter for parameter, adapted in zip(of_all, self._adapted, strict=True) if adapted]
            for of_all in (parameters, start)
        )
        gradients = list(torch.autograd.grad(loss, chosen, create_graph=second_order, materialize_grads=True))
        if self.inner.proximal:
            pulls = [self.inner.proximal * (now - then) for now, then in zip(chosen, anchors, strict=True)]
            gradients = [gradient + pull for gradient, pull in zip(gradients, pulls, strict=True)]
        transformed = self.rates.transformed(gradients)
        scaled = iter([rate * gradient for rate, gradient in zip(self.rates.at(step), transformed, strict=True)])
        self._update(learner, 1.0, [next(scaled) if adapted else None for adapted in self._adapted])


ENGINE = Learn2LearnEngine


def _import_quietly() -> Any:
    """learn2learn's MAML module, without the notice that its import of gym prints, which does not concern our users."""
    try:
        from gym_notices import notices

        notices.notices.clear()
    except ImportError:
        pass  # without the notices there is nothing to keep quiet
    from learn2learn.algorithms import maml

    return maml
