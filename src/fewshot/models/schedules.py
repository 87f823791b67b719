"""Learning-rate schedules that PyTorch lacks."""

from bisect import bisect_right
from collections.abc import Sequence

import torch
from torch.optim.lr_scheduler import LambdaLR

from fewshot.errors import UserError


class Stages(LambdaLR):
    """A learning rate that is constant in stages, which are shares of training, so that they fit any budget.

    Args:
        optimizer: the optimizer whose learning rate is scheduled.
        total_steps: number of outer steps of the training.
        until: share of training at which each stage but the last ends, rising.
        factors: factor of the initial learning rate, one per stage.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, total_steps: int, until: Sequence[float], factors: Sequence[float]
    ) -> None:
        if len(factors) != len(until) + 1 or list(until) != sorted(until):
            raise UserError(f"model.scheduler: until={list(until)} must rise and be one fewer than factors={list(factors)}")
        ends = [share * total_steps for share in until]
        super().__init__(optimizer, lambda step: factors[bisect_right(ends, step)])
