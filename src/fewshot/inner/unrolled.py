"""The outer gradient through all inner steps, with the graphs of all steps in memory, or of one at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fewshot.errors import UserError, suggest
from fewshot.inner.annealing import Annealing
from fewshot.inner.fast_weights import FastWeights, Gradients, add, split_gradients
from fewshot.inner.inner_loop import InnerLoop
from fewshot.inner.rates import TRANSFORMS, InnerRates
from fewshot.tasks.batch import TaskBatch

RATES = ("fixed", "per_step", "per_element")


@dataclass(frozen=True)
class Unrolled(InnerLoop):
    """MAML: the gradient of the query loss after adaptation, through every step (Finn et al. 2017, Algorithm 1, line 8).

    Attributes:
        first_order: drop the derivatives of the inner gradients (FOMAML, section 5.2).
        rates: ``fixed``: `lr` everywhere. ``per_step``: one learned rate a parameter tensor and step (Antoniou et al. 2019,
            section 3.4). ``per_element``: one learned rate a weight (Meta-SGD, Li et al. 2017).
        transform: of the inner gradients, learned: ``none``, ``meta_curvature`` or ``kronecker`` (`fewshot.inner.transforms`).
        annealing: schedules over the outer steps; None keeps everything constant.
        checkpoint_steps: recompute each inner step in the backward pass instead of keeping its graph: the memory of one step
            instead of all, for a third more time.
    """

    first_order: bool = False
    rates: str = "fixed"
    transform: str = "none"
    annealing: Annealing | None = None
    checkpoint_steps: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, choices in (("rates", RATES), ("transform", ("none", *TRANSFORMS))):
            if getattr(self, key) not in choices:
                raise UserError(f"model.inner.{key}={getattr(self, key)} is unknown{suggest(getattr(self, key), choices)}")
        if self.first_order and self.annealing is not None and self.annealing.first_order < 1:
            raise UserError(
                f"model.inner.first_order=true but model.inner.annealing.first_order={self.annealing.first_order} would end "
                "it; set one of them"
            )

    def outer_gradients(
        self, weights: FastWeights, chunk: TaskBatch, tasks: int, outer_step: int
    ) -> tuple[Tensor, Tensor, Gradients]:
        if self.checkpoint_steps:
            return self._step_by_step(weights, chunk, tasks, outer_step)
        fast, parts = weights.start(chunk), []
        for step, share in enumerate(self.loss_weights(outer_step)):
            fast = weights.step(fast, step, chunk, self.second_order(outer_step))
            if share:
                outputs = weights.query_outputs_after(step + 1, fast, chunk)
                losses = weights.losses(outputs, chunk.query_y)
                parts.append(share * losses.sum() / tasks)
        gradients = torch.autograd.grad(torch.stack(parts).sum(), weights.learned(chunk), allow_unused=True)
        return losses.detach(), outputs.detach(), list(gradients)

    def _step_by_step(
        self, weights: FastWeights, chunk: TaskBatch, tasks: int, outer_step: int
    ) -> tuple[Tensor, Tensor, Gradients]:
        """The same with the graph of one step in memory at a time: the backward pass recomputes each step.

        Checkpointed reverse-mode differentiation (Griewank & Walther 2008, chapter 12): only the weights between steps are
        kept. `towards` are the gradients of the fast weights before the step at hand, `total` those of the outer loop.
        """
        path, learned, shares = (
            list(weights.gradient_descent(chunk, self.steps)),
            weights.learned(chunk),
            self.loss_weights(outer_step),
        )
        losses, outputs, of_fast, of_outer = weights.query_gradients(path[-1], self.steps, chunk, tasks)
        towards, total = _scaled(of_fast, shares[-1]), _scaled(of_outer, shares[-1])
        for step in reversed(range(self.steps)):
            leaves = [weight.requires_grad_() for weight in path[step]]
            after = weights.step(leaves, step, chunk, self.second_order(outer_step))
            found = torch.autograd.grad(after, [*leaves, *learned], towards, allow_unused=True)
            of_fast, of_outer = split_gradients(found, leaves)
            towards, total = list(of_fast), add(total, of_outer)
            if step and shares[step - 1]:
                _, _, of_fast, of_outer = weights.query_gradients(path[step], step, chunk, tasks)
                towards = add(towards, _scaled(of_fast, shares[step - 1]))
                total = add(total, _scaled(of_outer, shares[step - 1]))
        found = torch.autograd.grad(weights.start(chunk), learned, towards, allow_unused=True)
        return losses, outputs, add(total, list(found))

    def new_rates(self, network: nn.Module) -> InnerRates:
        return InnerRates(self._adapted_parameters(network), self.lr, self.steps, self.rates, self.transform)

    def second_order(self, outer_step: int) -> bool:
        """Whether derivatives of the inner gradients are taken at outer step 0, 1, ..."""
        return not self.first_order and (self.annealing is None or self.annealing.second_order(outer_step))

    def loss_weights(self, outer_step: int) -> list[float]:
        """Weights of the query losses after each inner step at outer step 0, 1, ...; they add up to 1."""
        if self.annealing is None:
            return [0.0] * (self.steps - 1) + [1.0]
        return self.annealing.loss_weights(outer_step, self.steps)

    @property
    def landmarks(self) -> tuple[int, ...]:
        return self.annealing.landmarks if self.annealing else (0,)

    @property
    def description(self) -> dict[str, Any]:
        return {
            **super().description,
            "order": 1 if self.first_order else 2,
            "inner_rates": self.rates,
            "inner_transform": self.transform,
            "outer_gradient": "unrolled",
        }


def _scaled(gradients: Sequence[Tensor | None], weight: float) -> Gradients:
    return [None if gradient is None else weight * gradient for gradient in gradients]
