"""This project with the least memory: one inner step of one task at a time."""

from benchmarks.contenders import fewshot_run
from benchmarks.settings import Setting
from benchmarks.stopwatch import Stopwatch

LEAST = ("model.inner.checkpoint_steps=true", "model.inner.task_chunk=1")


def train(setting: Setting, steps: int, stopwatch: Stopwatch) -> None:
    """Trains for some outer steps."""
    fewshot_run.train(setting, steps, stopwatch, *LEAST)
