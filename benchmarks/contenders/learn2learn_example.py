"""learn2learn's MAML in the training loop of its examples ``maml_omniglot.py`` and ``maml_miniimagenet.py``."""

from typing import Any

import learn2learn as l2l
import torch
from torch.nn.functional import cross_entropy

from benchmarks.contenders import peers
from benchmarks.settings import Setting
from benchmarks.stopwatch import Stopwatch


def train(setting: Setting, steps: int, stopwatch: Stopwatch) -> None:
    """Draws a task, adapts a clone to it, adds up gradients; one Adam step a meta-batch."""
    maml = l2l.algorithms.MAML(peers.network(setting), lr=setting.lr, first_order=setting.first_order)
    optimizer = torch.optim.Adam(maml.parameters(), 0.003)
    for tasks in peers.outer_steps(setting, steps, stopwatch, optimizer):
        for support_x, support_y, query_x, query_y in tasks:
            learner = maml.clone()
            for _ in range(setting.steps):
                learner.adapt(cross_entropy(learner(support_x), support_y))
            outputs = learner(query_x)
            error = cross_entropy(outputs, query_y)
            error.backward()
            error.item()
            (outputs.argmax(dim=1) == query_y).float().mean().item()
        for parameter in maml.parameters():
            parameter.grad.data.mul_(1.0 / setting.tasks)


def draw(setting: Setting, count: int, stopwatch: Stopwatch) -> None:
    """Meta-batches from its Taskset, each task as float tensors, of images in memory."""
    draw_from(peers.tasks(setting), setting, count, stopwatch)


def draw_from(taskset: Any, setting: Setting, count: int, stopwatch: Stopwatch) -> None:
    """Meta-batches from a Taskset."""
    stopwatch.start()
    for _ in range(count):
        for _ in range(setting.tasks):
            taskset.sample()
        stopwatch.lap()


def evaluate(setting: Setting, count: int, stopwatch: Stopwatch) -> None:
    """So many tasks as in the last lines of its examples: adapted as in training."""
    maml = l2l.algorithms.MAML(peers.network(setting), lr=setting.lr)
    taskset = peers.tasks(setting)
    stopwatch.start()
    for _ in range(count):
        learner = maml.clone()
        support_x, support_y, query_x, query_y = peers.split(setting, taskset.sample())
        for _ in range(setting.steps):
            learner.adapt(cross_entropy(learner(support_x), support_y))
        outputs = learner(query_x)
        cross_entropy(outputs, query_y).item()
        (outputs.argmax(dim=1) == query_y).float().mean().item()
    stopwatch.lap()
