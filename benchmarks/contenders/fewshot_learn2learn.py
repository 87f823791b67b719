"""This project with learn2learn's MAML as its engine."""

from benchmarks.contenders import fewshot_run
from benchmarks.settings import Setting
from benchmarks.stopwatch import Stopwatch


def train(setting: Setting, steps: int, stopwatch: Stopwatch) -> None:
    """Trains for some outer steps."""
    fewshot_run.train(setting, steps, stopwatch, "model.engine=learn2learn")
