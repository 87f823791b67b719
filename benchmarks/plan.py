"""What ``make bench`` runs: kinds of work, each with its contenders, settings and size."""

from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.settings import SETTINGS, SWEEP

OURS, REFERENCE, FILES = "fewshot_run", "learn2learn_example", "learn2learn_files"
WARM_UP = 2
"""Training steps and meta-batches that are not counted."""


@dataclass(frozen=True)
class Work:
    """One kind of work.

    Attributes:
        of: what a figure is the time of.
        does: function of a contender's module.
        contenders: who does it.
        settings: in which.
        counts: how much a process does, for images of Omniglot's and of mini-ImageNet's size.
        repeats: at most so many processes each.
        reference: the contender that the others are compared with.
    """

    of: str
    does: str
    contenders: tuple[str, ...]
    settings: tuple[str, ...]
    counts: tuple[int, int]
    repeats: int = 5
    reference: str = REFERENCE

    def count(self, setting: str) -> int:
        """Steps, meta-batches or tasks for one process."""
        return self.counts[setting.startswith("mini")]

    def seconds(self, setting: str, found: dict[str, Any]) -> float:
        """Of one step, meta-batch or task, the median over those of a process."""
        if self.does == "evaluate":
            return float(sum(found["seconds"])) / self.count(setting)
        return median(found["seconds"][WARM_UP:])


CONTENDERS = (OURS, REFERENCE, "fewshot_by_steps", "bare", "fewshot_learn2learn", "higher_example", "torchopt_example")
WORKS = {
    "train": Work("training step", "train", CONTENDERS, tuple(SETTINGS), (12, 6)),
    "draw": Work("meta-batch drawn", "draw", (OURS, REFERENCE), ("omniglot_5w1s", "miniimagenet_5w1s"), (52, 52)),
    "draw from files": Work("meta-batch drawn", "draw", (OURS, FILES), ("omniglot_5w1s",), (52, 52), reference=FILES),
    "evaluate": Work("task evaluated", "evaluate", (OURS, REFERENCE), ("omniglot_5w1s", "miniimagenet_5w1s"), (600, 60), 3),
    "sweep": Work("training step", "train", (OURS, REFERENCE), tuple(SWEEP), (12, 6), 2),
}
