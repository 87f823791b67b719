"""This project's tasks and inner loop without Lightning: what its trainer adds is the difference."""

import tempfile
from functools import partial

import torch

from benchmarks.contenders.fewshot_run import config
from benchmarks.settings import Setting
from benchmarks.stopwatch import Stopwatch
from fewshot.runtime.build import build_data, build_model
from fewshot.runtime.process import set_up_process


def run(setting: Setting, steps: int, stopwatch: Stopwatch) -> None:
    """A loop of a few lines."""
    with tempfile.TemporaryDirectory() as folder:
        cfg = config(setting, folder, steps)
        set_up_process(cfg)
        datamodule, model = build_data(cfg), build_model(cfg)
        datamodule.prepare(["train", "val"])
        datamodule.setup("fit")
        batches = datamodule.meta_batches("train", steps * setting.tasks)
        optimizer = partial(torch.optim.Adam, lr=cfg.model.optimizer.lr)(model.parameters())
        stopwatch.start()
        for i in range(steps):
            batch = datamodule.scaled(batches[i])
            optimizer.zero_grad()
            model.meta_gradient(batch)
            optimizer.step()
            stopwatch.lap()
