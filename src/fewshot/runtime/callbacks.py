"""Lightning callbacks of a run."""

import time
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
from lightning.pytorch.callbacks import Callback, Checkpoint, RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import ProcessingSpeedColumn, RichProgressBarTheme
from lightning.pytorch.trainer.states import TrainerFn

from fewshot.errors import whole

Kind = TypeVar("Kind", bound=Callback)


def callbacks_of(trainer: L.Trainer, kind: type[Kind]) -> list[Kind]:
    """The trainer's callbacks of one kind."""
    return [callback for callback in trainer.callbacks if isinstance(callback, kind)]  # type: ignore[attr-defined]


class Throughput(Callback):
    """Logs ``train/tasks_per_second``, and adds up what training cost; validation is not counted.

    Attributes:
        seconds: in outer steps, data loading included.
        tasks: trained on.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.tasks = 0
        self._since: float | None = None
        self._window_seconds = 0.0
        self._window_tasks = 0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        if self._since is not None:
            self._window_seconds += now - self._since
            self._window_tasks += len(batch)
        self._since = now
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            pl_module.log("train/tasks_per_second", self._window_tasks / self._window_seconds, prog_bar=True)
            self.seconds += self._window_seconds
            self.tasks += self._window_tasks
            self._window_seconds, self._window_tasks = 0.0, 0

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = time.perf_counter()


class ValidateLast(Callback):
    """Validates after the last outer step too, where ``trainer.val_check_interval`` does not divide ``trainer.max_steps``."""

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx + 1 == trainer.num_training_batches:
            trainer.val_check_batch = batch_idx + 1


class SaveLast(Checkpoint):
    """Keeps ``last.ckpt``: the state after an outer step, and after the validation that follows it where one does.

    (Lightning's ModelCheckpoint leaves the last step out where its interval does not divide the number of steps.)

    Args:
        dirpath: folder.
        every_n_steps: outer steps between checkpoints; the last step and every validation are followed by one too.
    """

    def __init__(self, dirpath: str, every_n_steps: int) -> None:
        self._path = Path(dirpath) / "last.ckpt"
        whole("callbacks.last.every_n_steps", every_n_steps, least=1)
        self._every_n_steps = every_n_steps

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        validates_now = (batch_idx + 1) % int(trainer.val_check_batch or 1) == 0
        if trainer.global_step % self._every_n_steps == 0 and not validates_now:
            trainer.save_checkpoint(self._path)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            trainer.save_checkpoint(self._path)


class ProgressBar(RichProgressBar):
    """One bar over all outer steps, with loss, accuracy, tasks a second and the last validation accuracy."""

    def __init__(self, refresh_rate: int = 1) -> None:
        theme = RichProgressBarTheme(metrics_format=".3g")
        super().__init__(refresh_rate=refresh_rate, leave=True, theme=theme)

    def _get_train_description(self, current_epoch: int) -> str:
        return "Training"

    def configure_columns(self, trainer: L.Trainer) -> list[Any]:
        return [column for column in super().configure_columns(trainer) if not isinstance(column, ProcessingSpeedColumn)]

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        shown = {"train/loss": "loss", "train/acc": "acc", "train/tasks_per_second": "tasks/s", "val/acc": "val"}
        metrics = super().get_metrics(trainer, pl_module)
        return {shown[name]: value for name, value in metrics.items() if name in shown}
