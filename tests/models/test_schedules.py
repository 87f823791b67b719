"""The rate in stages."""

import pytest
import torch

from fewshot.errors import UserError
from fewshot.models.schedules import Stages


def rates(steps, **options):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = Stages(optimizer, steps, **options)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_stages_end_at_their_share_of_training():
    assert rates(10, until=[0.5, 0.8], factors=[1, 0.1, 0.01]) == pytest.approx([2] * 5 + [0.2] * 3 + [0.02] * 2)


def test_every_stage_needs_its_factor():
    for until, factors in (([0.5], [1.0]), ([0.8, 0.5], [1, 0.1, 0.01])):
        with pytest.raises(UserError, match=r"model\.scheduler"):
            rates(10, until=until, factors=factors)
