"""How far a run is, as a progress bar on a terminal; `ProgressLines` are for ``train.log`` and everywhere else."""

from typing import Any, cast

import lightning as L
import rich
from lightning.pytorch.callbacks import RichProgressBar
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
from rich.text import Text

from fewshot.data.datamodule import EpisodicDataModule
from fewshot.models.base import MetaLearner

NARROW = 100
"""Columns of a terminal below which the time that has gone by is left out."""


class ProgressBar(RichProgressBar):
    """One bar over all outer steps with loss, accuracies and tasks a second, one over the tasks of an evaluation.

    It stays on one line, with figures of fixed width, and shows fewer of them on a narrow terminal. Without a terminal there is
    none.

    Args:
        refresh_rate: outer steps between redraws; 0 shows no bar.
    """

    def __init__(self, refresh_rate: int = 1) -> None:
        super().__init__(refresh_rate=refresh_rate, leave=True)
        console = rich.get_console()
        self._on_terminal = console.is_terminal or console.is_jupyter
        self._fields: dict[str, tuple[str, str]] = {}

    @property
    def is_enabled(self) -> bool:
        return super().is_enabled and self._on_terminal

    def _get_train_description(self, current_epoch: int) -> str:
        return "Training"

    def configure_columns(self, trainer: L.Trainer) -> list[Any]:
        width = rich.get_console().width
        count, clock = Count(trainer), Clock(elapsed=width >= NARROW)
        left = width - (10 + 1) - (5 + 1) - (count.width + 1) - (clock.width + 1)  # description, the shortest bar, ...
        self._fields = {}
        decides = cast(MetaLearner, trainer.lightning_module).objective.monitor
        for name, (key, form) in _fields(decides).items():
            needs = len(f"{name}: {0:{form}}") + 1
            if needs <= left:
                self._fields[name] = (key, form)
                left -= needs
        return [TextColumn("{task.description:<10}"), BarColumn(bar_width=min(40, 5 + left)), count, clock]

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        return {name: f"{metrics[key]:{form}}" for name, (key, form) in self._fields.items() if key in metrics}


class Count(ProgressColumn):
    """How many outer steps of how many, or tasks in an evaluation, in a fixed width."""

    def __init__(self, trainer: L.Trainer) -> None:
        super().__init__()
        self._trainer = trainer
        self.width = 2 * max(len(str(trainer.max_steps)), 4) + 1

    def render(self, task: Task) -> Text:
        done, total = int(task.completed), int(task.total or 0)
        if task.description == "Training":
            first = datamodule_of(self._trainer).first_step
            done, total = done + first, total + first
        else:
            split = "test" if task.description == "Testing" else "val"
            done, total = (tasks_done(self._trainer, split, batches) for batches in (done, total))
        return Text(f"{done:>{len(str(total))}}/{total}".rjust(self.width))


class Clock(ProgressColumn):
    """The time that is left, and before it the time that has gone by where there is room, in a fixed width."""

    max_refresh = 0.5

    def __init__(self, elapsed: bool) -> None:
        super().__init__()
        self._elapsed = elapsed
        self.width = 19 if elapsed else 8

    def render(self, task: Task) -> Text:
        gone = task.finished_time if task.finished else task.elapsed
        text = f"{clock(task.time_remaining):>8}"
        return Text(f"{clock(gone):>8} • {text}" if self._elapsed else text, style="dim")


def _fields(decides: str) -> dict[str, tuple[str, str]]:
    """What the bar shows, the most important first: the figure and its format, of a fixed width."""
    return {
        "loss": ("train/loss", "6.3f"),
        decides: (f"train/{decides}", "5.3f"),
        "val": (f"val/{decides}", "5.3f"),
        "tasks/s": ("train/tasks_per_second", "6.1f"),
    }


def tasks_done(trainer: L.Trainer, split: str, batches: int) -> int:
    """How many tasks of a split so many meta-batches hold, over all processes."""
    datamodule = datamodule_of(trainer)
    return min(batches * datamodule.meta_batch_size, datamodule.tasks[split])


def datamodule_of(trainer: L.Trainer) -> EpisodicDataModule:
    """The data module that the trainer reads."""
    return cast(EpisodicDataModule, trainer.datamodule)  # type: ignore[attr-defined]


def clock(seconds: float | None) -> str:
    """Hours, minutes and seconds; dashes where the time is not known."""
    if seconds is None:
        return "-:--:--"
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
