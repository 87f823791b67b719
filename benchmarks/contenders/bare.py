"""This project's tasks and inner loop without Lightning: what its trainer adds is the difference."""

import torch

from benchmarks.contenders.fewshot_run import built
from benchmarks.settings import Setting
from benchmarks.stopwatch import DEVICE, Stopwatch


def train(setting: Setting, steps: int, stopwatch: Stopwatch) -> None:
    """A loop of a few lines."""
    with built(setting, steps) as (datamodule, model, _):
        datamodule.setup("fit")
        batches = datamodule.meta_batches("train", steps * setting.tasks)
        optimizer = torch.optim.Adam(model.to(DEVICE).parameters(), lr=0.001)
        stopwatch.start()
        for i in range(steps):
            (batch,) = datamodule.scaled([batches[i][0].to(DEVICE)])
            optimizer.zero_grad()
            model.meta_gradient(batch)
            optimizer.step()
            stopwatch.lap()
