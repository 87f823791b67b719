"""This project with one inner step in memory at a time."""

from benchmarks.contenders import fewshot_run
from benchmarks.settings import Setting
from benchmarks.stopwatch import Stopwatch


def train(setting: Setting, steps: int, stopwatch: Stopwatch) -> None:
    """Trains for some outer steps."""
    fewshot_run.train(setting, steps, stopwatch, "model.inner.checkpoint_steps=true")
