"""When pictures are drawn: at validations, a number of outer steps apart."""

from abc import abstractmethod
from typing import cast

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn

from fewshot.errors import check_int
from fewshot.models.base import MetaLearner
from fewshot.runtime.plots.loggers import boards


class AtValidation(Callback):
    """Shows something at the first validation after every so many outer steps, and at the last validation.

    When that is depends on the outer step alone, so that a run that goes on shows what an undisturbed one shows.

    Args:
        every_n_steps: outer steps between pictures.
    """

    def __init__(self, every_n_steps: int) -> None:
        check_int(f"callbacks: every_n_steps of {type(self).__name__}", every_n_steps, least=1)
        self._every_n_steps = every_n_steps

    @abstractmethod
    def show(self, trainer: L.Trainer, model: MetaLearner, step: int) -> None:
        """Draws what there is to see after outer step `step`, counted from 0. The model is in evaluation mode."""

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and boards(trainer) and self._due(trainer):
            self.show(trainer, cast(MetaLearner, pl_module), trainer.global_step - 1)

    def _due(self, trainer: L.Trainer) -> bool:
        done = trainer.global_step
        return done == trainer.max_steps or done % self._every_n_steps < int(trainer.val_check_interval or 1)
