"""Learning-rate schedules that PyTorch lacks."""

from bisect import bisect_right
from collections.abc import Sequence

import torch
from torch.optim.lr_scheduler import LambdaLR

from fewshot.errors import UserError


class Stages(LambdaLR):
    """The rate in stages, given as shares of training, so that they fit any budget.

    Args:
        optimizer: whose rate it is.
        total_steps: outer steps of the training.
        until: share of training at which each stage but the last ends, rising.
        factors: of the rate at the start, one a stage.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, total_steps: int, until: Sequence[float], factors: Sequence[float]
    ) -> None:
        if len(factors) != len(until) + 1 or list(until) != sorted(until):
            raise UserError(f"model.scheduler: until={list(until)} must rise and be one fewer than factors={list(factors)}")
        ends = [share * total_steps for share in until]
        super().__init__(optimizer, lambda step: factors[bisect_right(ends, step)])
