"""How far a run is: a progress bar on a terminal, lines in ``train.log`` and everywhere else."""

import time
from typing import Any, cast

import lightning as L
import rich
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from lightning.pytorch.trainer.states import TrainerFn
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
from rich.text import Text
from torch import Tensor

from fewshot.data.datamodule import EpisodicDataModule
from fewshot.evaluation.scores import formatted, score, with_interval
from fewshot.evaluation.table import tasks_text
from fewshot.models.base import MetaLearner
from fewshot.runtime.callbacks import Throughput, get_callback
from fewshot.runtime.console import say
from fewshot.runtime.metrics_csv import MetricsCsv

SECONDS_BETWEEN_LINES = 60
NARROW = 100
"""Columns of a terminal below which the time that has gone by is left out."""


class ProgressLines(Callback):
    """Says how far a run is, each tenth of the way and each minute, and what each validation came to."""

    def __init__(self) -> None:
        self._began, self._first_step = time.perf_counter(), 0
        self._said, self._seconds, self._tasks = self._began, 0.0, 0
        self._best: Tensor | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        throughput = get_callback(trainer, Throughput)
        self._began, self._first_step = time.perf_counter(), trainer.global_step
        self._said, self._seconds, self._tasks = self._began, throughput.seconds, throughput.tasks
        self._best = get_callback(trainer, ModelCheckpoint).best_model_score

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step, steps, now = trainer.global_step, trainer.max_steps, time.perf_counter()
        if step * 10 // steps == (step - 1) * 10 // steps and now - self._said < SECONDS_BETWEEN_LINES:
            return
        throughput, figures = get_callback(trainer, Throughput), trainer.callback_metrics
        speed = (throughput.tasks - self._tasks) / max(throughput.seconds - self._seconds, 1e-9)
        left = (now - self._began) / (step - self._first_step) * (steps - step)
        self._said, self._seconds, self._tasks = now, throughput.seconds, throughput.tasks
        decides = cast(MetaLearner, pl_module).objective.monitor
        unit = " %" if score(decides).percent else ""
        say(
            trainer,
            f"Step {step:,} of {steps:,} ({100 * step // steps} %): loss {figures['train/loss']:.3f}, "
            f"{score(decides).label} {formatted(decides, float(figures[f'train/{decides}']))}{unit}, {speed:.1f} tasks/s, "
            f"{_clock(left)} left",
        )
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCsv):
                logger.save()  # how far the run has come is seen from outside too

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        scores, best = cast(MetaLearner, pl_module).scores["val"], get_callback(trainer, ModelCheckpoint)
        kept = ", the best so far" if best.best_model_score != self._best else ""
        self._best, final = best.best_model_score, scores.final
        say(
            trainer,
            f"Validation after step {trainer.global_step:,}: {with_interval(scores.monitor, final.mean, final.ci95)}, "
            f"loss {scores.loss[:, -1].mean():.3f} ({tasks_text(len(scores.index))}){kept}",
        )

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._say_tasks(trainer, "val", batch_idx)

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._say_tasks(trainer, "test", batch_idx)

    def _say_tasks(self, trainer: L.Trainer, split: str, batch_idx: int) -> None:
        """Each minute of an evaluation."""
        if time.perf_counter() - self._said >= SECONDS_BETWEEN_LINES:
            self._said = time.perf_counter()
            done = tasks_done(trainer, split, batch_idx + 1)
            say(trainer, f"Evaluating: {done:,} of {_datamodule(trainer).tasks[split]:,} {split} tasks")


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
            first = _datamodule(self._trainer).first_step
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
        text = f"{_clock(task.time_remaining):>8}"
        return Text(f"{_clock(gone):>8} • {text}" if self._elapsed else text, style="dim")


def tasks_done(trainer: L.Trainer, split: str, batches: int) -> int:
    """How many tasks of a split so many meta-batches hold, over all processes."""
    datamodule = _datamodule(trainer)
    return min(batches * datamodule.meta_batch_size, datamodule.tasks[split])


def _fields(decides: str) -> dict[str, tuple[str, str]]:
    """What the bar shows, the most important first: the figure and its format, of a fixed width."""
    return {
        "loss": ("train/loss", "6.3f"),
        decides: (f"train/{decides}", "5.3f"),
        "val": (f"val/{decides}", "5.3f"),
        "tasks/s": ("train/tasks_per_second", "6.1f"),
    }


def _datamodule(trainer: L.Trainer) -> EpisodicDataModule:
    return cast(EpisodicDataModule, trainer.datamodule)  # type: ignore[attr-defined]


def _clock(seconds: float | None) -> str:
    """Hours, minutes and seconds."""
    if seconds is None:
        return "-:--:--"
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
