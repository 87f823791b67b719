"""Lightning callbacks of a run."""

import signal
import time
from pathlib import Path
from typing import Any, TypeVar, cast

import lightning as L
from hydra.utils import get_object
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    BatchSizeFinder,
    Callback,
    Checkpoint,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelCheckpoint,
    ModelPruning,
    StochasticWeightAveraging,
)
from lightning.pytorch.trainer.states import TrainerFn
from omegaconf import DictConfig

from fewshot.data.datamodule import EpisodicDataModule
from fewshot.errors import UserError, check_int
from fewshot.files import keep_as
from fewshot.runtime.checkpoints import LAST, PREVIOUS
from fewshot.runtime.console import log_progress
from fewshot.runtime.plots.loggers import show_scalars
from fewshot.runtime.signals import Stopped, StopRequest

Kind = TypeVar("Kind", bound=Callback)

UNFIT = {
    StochasticWeightAveraging: "averages once an epoch, and a run is one epoch; take EMAWeightAveraging or WeightAveraging",
    BaseFinetuning: "freezes and unfreezes by epochs, and a run is one epoch",
    ModelPruning: "replaces parameters that the inner loop adapts",
    GradientAccumulationScheduler: "adds up gradients that outer steps do not share; set data.meta_batch_size",
    BatchSizeFinder: "looks for a batch size that tasks do not have; set data.meta_batch_size",
    LearningRateFinder: "needs Lightning's own optimization, which outer steps do not use; set model.optimizer.lr",
}
"""Lightning's callbacks that a run of outer steps cannot have, with the reason."""


def refuse_unfit(callbacks: DictConfig) -> None:
    """Refuses callbacks that would compute something else than they promise, or stop a run from going on as it was.

    Raises:
        UserError: one is of `UNFIT`.
    """
    for name, node in callbacks.items():
        kind = get_object(node._target_)
        for unfit, reason in UNFIT.items():
            if isinstance(kind, type) and issubclass(kind, unfit):
                raise UserError(f"callbacks.{name!s}: {kind.__name__} {reason}; remove it")


def get_callback(trainer: L.Trainer, kind: type[Kind]) -> Kind:
    """The trainer's callback of a kind that every run has once.

    Raises:
        UserError: the config has removed it, or added another.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    found = [callback for callback in callbacks if isinstance(callback, kind) and not isinstance(callback, TopCheckpoints)]
    if len(found) != 1:
        raise UserError(f"callbacks has {len(found)} of {kind.__name__}, a run needs one; see configs/callbacks/minimal.yaml")
    return found[0]


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
        now, tasks = time.perf_counter(), cast(EpisodicDataModule, trainer.datamodule).meta_batch_size  # type: ignore[attr-defined]
        elapsed = now - (self._since or now)
        self._since = now
        self.seconds += elapsed
        self.tasks += tasks
        self._window_seconds += elapsed
        self._window_tasks += tasks
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._log(trainer, pl_module, self._window_tasks / self._window_seconds)
            self._window_seconds, self._window_tasks = 0.0, 0

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "tasks": self.tasks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds, self.tasks = state_dict["seconds"], state_dict["tasks"]

    @staticmethod
    def _log(trainer: L.Trainer, pl_module: L.LightningModule, speed: float) -> None:
        """Not to metrics.csv, which is the same for every run of a config: times are not."""
        pl_module.log("train/tasks_per_second", speed, prog_bar=True, logger=False)
        show_scalars(trainer, {"train/tasks_per_second": speed}, trainer.global_step - 1)


class TopCheckpoints(ModelCheckpoint):
    """Keeps the checkpoints that validated best, beside ``best.ckpt``, for ``eval.py ensemble=N``."""


class ValidateLast(Callback):
    """Validates after the last outer step too, where ``trainer.val_check_interval`` does not divide ``trainer.max_steps``."""

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step + 1 == trainer.max_steps:
            trainer.val_check_batch = trainer.max_steps


class SaveLast(Checkpoint):
    """Keeps ``last.ckpt``, and as ``previous.ckpt`` the one before it.

    A checkpoint is the state between two outer steps, when all that belongs to the first is done: its validation, its log
    entries, the best checkpoint. There is one before every step that a validation follows, so that a run stopped during a
    validation repeats that step only.

    Args:
        dirpath: folder.
        every_n_steps: outer steps between checkpoints.

    Attributes:
        conditions: digest of all that can end training before ``trainer.max_steps``. A checkpoint written when training has
            ended keeps it: under the same conditions there is no step left to take.
    """

    def __init__(self, dirpath: str, every_n_steps: int) -> None:
        self._folder = Path(dirpath)
        check_int("callbacks.last.every_n_steps", every_n_steps, least=1)
        self._every_n_steps = every_n_steps
        self._saved_step = 0
        self.conditions = ""
        self._ended_under: str | None = None

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        done = trainer.global_step
        validates_next = done + 1 == trainer.max_steps or (done + 1) % int(trainer.val_check_batch or 1) == 0
        if done and (validates_next or done % self._every_n_steps == 0):
            self.save(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._ended_under = self.conditions
        self.save(trainer)

    def has_ended(self, checkpoint: dict[str, Any]) -> bool:
        """Whether a checkpoint is of a run that has taken all the steps that it would take now."""
        return bool(checkpoint["callbacks"].get(self.state_key, {}).get("ended_under") == self.conditions)

    def save(self, trainer: L.Trainer) -> None:
        """Writes the state between two outer steps; log entries first, so that none is missing after a kill."""
        if trainer.global_step == self._saved_step and self._ended_under is None:
            return
        for logger in trainer.loggers:
            logger.save()
        last = self._folder / LAST
        if trainer.is_global_zero and last.is_file():
            keep_as(last, self._folder / PREVIOUS)
        trainer.save_checkpoint(last)
        self._saved_step = trainer.global_step
        log_progress(trainer, f"Checkpoint after step {trainer.global_step:,}: {LAST}")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._saved_step = state_dict["saved_step"]

    def state_dict(self) -> dict[str, Any]:
        return {"saved_step": self._saved_step, "ended_under": self._ended_under}


class StopWhenAsked(Callback):
    """Ends the run when a signal asks for it: after the outer step in hand, with a checkpoint written.

    Args:
        request: what the signal handlers note.
        last: writes the checkpoint.
    """

    def __init__(self, request: StopRequest, last: SaveLast) -> None:
        self._request = request
        self._last = last

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._request.listen()  # Lightning has put its own handlers in the way

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._request.listen()
        self._request.permit()

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        asked = self._request.signum is not None
        if trainer.strategy.reduce_boolean_decision(asked, all=False):  # of any process: all stop at the same step
            self._last.save(trainer)
            raise Stopped(self._request.signum or signal.SIGTERM)
        self._request.deferred = True

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._request.listen()
        self._request.permit()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._request.deferred = trainer.state.fn == TrainerFn.FITTING

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._request.deferred = False
