"""Schedules of the inner loop over training: multi-step loss and derivative-order annealing."""

from dataclasses import dataclass
from math import ceil

from fewshot.errors import UserError, check_int

FLOOR = 0.03
"""Smallest weight of a step's query loss, as a share of its first weight; the published code's value."""


@dataclass(frozen=True)
class Annealing:
    """The two schedules of MAML++ (Antoniou et al. 2019), as shares of the training.

    Attributes:
        outer_steps: number of outer steps of the whole training.
        multi_step: share of the training, from its start, in which the query losses after *every* inner step count (section
            3.1, multi-step loss): equal weights at first, then more and more weight on the last step; afterwards the last step
            alone.
        first_order: share of the training, from its start, without second derivatives (section 3.1, derivative-order
            annealing).
    """

    outer_steps: int
    multi_step: float = 0.0
    first_order: float = 0.0

    def __post_init__(self) -> None:
        check_int("model.inner.annealing.outer_steps", self.outer_steps, least=1)
        for key in ("multi_step", "first_order"):
            share = getattr(self, key)
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
                raise UserError(f"model.inner.annealing.{key}={share} must be a share of the training, from 0 to 1")

    @property
    def landmarks(self) -> tuple[int, int]:
        """The outer steps with the largest graphs: the first, and the first with second derivatives."""
        return 0, ceil(self.first_order * self.outer_steps)

    def second_order(self, outer_step: int) -> bool:
        """Whether second derivatives are taken at outer step 0, 1, ..."""
        return outer_step >= self.first_order * self.outer_steps

    def loss_weights(self, outer_step: int, steps: int) -> list[float]:
        """Weights of the query losses after each of `steps` inner steps at outer step 0, 1, ...; they add up to 1."""
        end = self.multi_step * self.outer_steps
        if outer_step >= end:
            return [0.0] * (steps - 1) + [1.0]
        early = max(1 - outer_step / end, FLOOR) / steps
        return [early] * (steps - 1) + [1 - (steps - 1) * early]
