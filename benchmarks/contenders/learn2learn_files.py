"""learn2learn's Taskset over files of drawings, as in its Omniglot example."""

import tempfile
from pathlib import Path

from benchmarks.contenders import peers
from benchmarks.contenders.learn2learn_example import draw_from
from benchmarks.settings import Setting
from benchmarks.stopwatch import Stopwatch


def draw(setting: Setting, count: int, stopwatch: Stopwatch) -> None:
    """Meta-batches, each task as float tensors."""
    with tempfile.TemporaryDirectory() as folder:
        draw_from(peers.tasks(setting, peers.Files(Path(folder), setting.shape)), setting, count, stopwatch)
