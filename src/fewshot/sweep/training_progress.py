"""How far the training of a job has come, read from the files of its run, whoever runs it."""

import csv
import math
import time
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from fewshot.evaluation.scores import formatted, score
from fewshot.sweep.job import METRICS, Job, State


@dataclass(frozen=True)
class Training:
    """What ``metrics.csv`` held when it was written last: each tenth of the way, each minute, and with each checkpoint.

    Attributes:
        step: outer steps done.
        steps: outer steps that there are to be.
        monitor: the figure that decides, as in ``val/acc``.
        best: its best value so far; NaN before the first validation.
        seconds_left: until the last outer step, at the pace of this attempt; NaN where that is not known or nobody runs it.
    """

    step: int
    steps: int
    monitor: str
    best: float
    seconds_left: float

    def __str__(self) -> str:
        words = [f"step {self.step:,}/{self.steps:,}"]
        if not math.isnan(self.best):
            name = self.monitor.partition("/")[2]
            words.append(f"best {self.monitor} {formatted(name, self.best)}{' %' if score(name).percent else ''}")
        if not math.isnan(self.seconds_left):
            words.append(f"{duration(self.seconds_left)} left")
        return ", ".join(words)


def training_of(job: Job) -> Training | None:
    """How far a job has come; None before it has first said so, and of an evaluation, which trains nothing."""
    path = job.folder / METRICS
    try:
        written = path.stat().st_mtime
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        return None
    if "run" in job.config():
        return None
    steps, monitor, mode = _plan(job)
    step = job.steps_done()
    values = [float(row[monitor]) for row in rows if row.get(monitor)]
    best = (max if mode == "max" else min)(values, default=math.nan)
    return Training(step, steps, monitor, best, _seconds_left(job, written, step, steps))


def _seconds_left(job: Job, written: float, step: int, steps: int) -> float:
    attempts = job.record()["attempts"]
    first = attempts[-1].get("first_step") if attempts else None
    if first is None or step <= first or job.state() != State.RUNNING:
        return math.nan
    pace = (written - datetime.fromisoformat(attempts[-1]["started"]).timestamp()) / (step - first)
    return max(0.0, float(pace * (steps - step) - (time.time() - written)))


@lru_cache(maxsize=256)
def _plan(job: Job) -> tuple[int, str, str]:
    """Outer steps, the figure that decides, and its direction."""
    cfg = job.config()
    return int(cfg.trainer.max_steps), str(cfg.callbacks.best.monitor), str(cfg.callbacks.best.mode)


def duration(seconds: float) -> str:
    """Roughly, as in ``40 s``, ``3 min`` or ``1 h 20 min``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
