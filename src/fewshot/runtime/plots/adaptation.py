"""What adaptation gains, over the course of training."""

from typing import Any, cast

import lightning as L
import numpy as np
from lightning.pytorch.trainer.states import TrainerFn

from fewshot.evaluation.figures import adaptation_over_time
from fewshot.models.base import MetaLearner
from fewshot.runtime.plots.at_validation import AtValidation
from fewshot.runtime.plots.loggers import show_figure


class AdaptationOverTime(AtValidation):
    """Accuracy and loss on the validation tasks before adaptation and after each step: one figure of all validations so far."""

    def __init__(self, every_n_steps: int) -> None:
        super().__init__(every_n_steps)
        self._history: list[dict[str, Any]] = []

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            scores = cast(MetaLearner, pl_module).scores["val"]
            means = {"accuracy": scores.accuracy.mean(axis=0).tolist(), "loss": scores.loss.mean(axis=0).tolist()}
            self._history.append({"step": trainer.global_step, **means})
        super().on_validation_end(trainer, pl_module)

    def show(self, trainer: L.Trainer, model: MetaLearner, step: int) -> None:
        if len(self._history[-1]["loss"]) == 1:
            return  # no adaptation, nothing that val/acc does not show
        steps, accuracy, loss = (np.array([entry[key] for entry in self._history]) for key in ("step", "accuracy", "loss"))
        show_figure(trainer, "val/adaptation_over_time", adaptation_over_time(steps, accuracy, loss), step)

    def state_dict(self) -> dict[str, Any]:
        return {"history": [dict(entry) for entry in self._history]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._history = list(state_dict["history"])
