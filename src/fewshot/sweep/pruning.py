"""Giving a trial of a study up where others did better after as many outer steps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from fewshot.sweep.journal import PRUNED, STUDY, journal


class Pruned(Exception):  # noqa: N818  as Stopped, no error
    """The study's pruner has given this trial up."""

    exit_code = PRUNED


class PruneTrial(Callback):
    """Reports the study's figure of each validation to Optuna, and ends the run where its pruner says so.

    Args:
        folder: of the sweep, with the study's journal.
        trial: number of this run in the study.
        pruner: of the study; it compares with the validations of other trials after the same outer step.
    """

    def __init__(self, folder: str, trial: int, pruner: Any) -> None:
        self._folder = Path(folder)
        self._number = trial
        self._pruner = pruner

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        prune = trainer.is_global_zero and self._report(trainer.callback_metrics, trainer.global_step)
        if trainer.strategy.broadcast(prune):
            raise Pruned(f"pruned after outer step {trainer.global_step:,}: other trials validate better")

    def _report(self, figures: Mapping[str, Tensor], step: int) -> bool:
        """Whether the trial is to be given up, by the study's only objective; never by one that no validation has."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.load_study(study_name=STUDY, storage=journal(self._folder), pruner=self._pruner)
        frozen = study.get_trials(deepcopy=False)[self._number]
        (name,) = study.user_attrs["objectives"]
        if name not in figures or step in frozen.intermediate_values:  # where an earlier process has asked already
            return False
        trial = optuna.Trial(study, frozen._trial_id)
        trial.report(float(figures[name]), step)
        return trial.should_prune()
