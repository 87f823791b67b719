"""The reference engine: all that engines have to pass but the comparison with itself, and learn2learn's own way of adapting."""

import subprocess
import sys

import pytest
import torch
from learn2learn.algorithms import MAML
from torch import nn

from tests.inner.engine_tester import ORDERS, DifferencesTester, LoopTester, gradients, network_of, random_tasks


class TestLearn2LearnEngine(DifferencesTester, LoopTester):
    engine = "learn2learn"

    @ORDERS
    def test_adapting_everything_is_learn2learns_adapt_to_the_bit(self, first_order):
        network, batch = network_of("conv4"), random_tasks()
        losses, _, gradient = self.meta_gradient(network, batch, steps=3, first_order=first_order, adapt_norm=True)
        network.zero_grad()
        maml = MAML(network, lr=0.3, first_order=first_order)
        expected = []
        for task in batch:
            learner = maml.clone()
            for _ in range(3):
                learner.adapt(nn.functional.cross_entropy(learner(task.support_x), task.support_y))
            loss = nn.functional.cross_entropy(learner(task.query_x), task.query_y)
            (loss / 2).backward()
            expected.append(loss.detach())
        assert torch.equal(losses, torch.stack(expected))
        assert all(torch.equal(a, b) for a, b in zip(gradient, gradients(network), strict=True))


@pytest.mark.proof
def test_importing_it_prints_nothing():
    """learn2learn imports gym, which prints a notice of several lines."""
    code = "import fewshot.inner.learn2learn_engine as engine; engine._import_quietly()"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
