"""How far a run is, as lines in ``train.log`` and on a console without a progress bar."""

import time
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from fewshot.evaluation.scores import formatted, score, with_interval
from fewshot.evaluation.table import tasks_text
from fewshot.models.base import MetaLearner
from fewshot.runtime.callbacks import Throughput, get_callback
from fewshot.runtime.console import log_progress
from fewshot.runtime.metrics_csv import MetricsCsv
from fewshot.runtime.progress import clock, datamodule_of, tasks_done

SECONDS_BETWEEN_LINES = 60


class ProgressLines(Callback):
    """Logs how far a run is, each tenth of the way and each minute, and the scores of each validation."""

    def __init__(self) -> None:
        self._began, self._first_step = time.perf_counter(), 0
        self._logged_at, self._seconds, self._tasks = self._began, 0.0, 0
        self._best: Tensor | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        throughput = get_callback(trainer, Throughput)
        self._began, self._first_step = time.perf_counter(), trainer.global_step
        self._logged_at, self._seconds, self._tasks = self._began, throughput.seconds, throughput.tasks
        self._best = get_callback(trainer, ModelCheckpoint).best_model_score

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step, steps, now = trainer.global_step, trainer.max_steps, time.perf_counter()
        if step * 10 // steps == (step - 1) * 10 // steps and now - self._logged_at < SECONDS_BETWEEN_LINES:
            return
        throughput, figures = get_callback(trainer, Throughput), trainer.callback_metrics
        speed = (throughput.tasks - self._tasks) / max(throughput.seconds - self._seconds, 1e-9)
        left = (now - self._began) / (step - self._first_step) * (steps - step)
        self._logged_at, self._seconds, self._tasks = now, throughput.seconds, throughput.tasks
        decides = cast(MetaLearner, pl_module).objective.monitor
        unit = " %" if score(decides).percent else ""
        log_progress(
            trainer,
            f"Step {step:,} of {steps:,} ({100 * step // steps} %): loss {figures['train/loss']:.3f}, "
            f"{score(decides).label} {formatted(decides, float(figures[f'train/{decides}']))}{unit}, {speed:.1f} tasks/s, "
            f"{clock(left)} left",
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
        log_progress(
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
        self._log_tasks(trainer, "val", batch_idx)

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._log_tasks(trainer, "test", batch_idx)

    def _log_tasks(self, trainer: L.Trainer, split: str, batch_idx: int) -> None:
        """Logs how far an evaluation is, each minute."""
        if time.perf_counter() - self._logged_at >= SECONDS_BETWEEN_LINES:
            self._logged_at = time.perf_counter()
            done = tasks_done(trainer, split, batch_idx + 1)
            log_progress(trainer, f"Evaluating: {done:,} of {datamodule_of(trainer).tasks[split]:,} {split} tasks")
