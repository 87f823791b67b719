"""What adaptation gains, over the course of training."""

from typing import Any, cast

import lightning as L
import numpy as np
from lightning.pytorch.trainer.states import TrainerFn

from fewshot.evaluation.figures import adaptation_over_time
from fewshot.evaluation.scores import score
from fewshot.models.base import MetaLearner
from fewshot.runtime.plots.at_validation import AtValidation
from fewshot.runtime.plots.loggers import show_figure


class AdaptationOverTime(AtValidation):
    """The deciding score and the loss on the validation tasks before and after each adaptation step, all in one figure."""

    def __init__(self, every_n_steps: int) -> None:
        super().__init__(every_n_steps)
        self._history: list[dict[str, Any]] = []

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            scores = cast(MetaLearner, pl_module).scores["val"]
            means = {"score": scores.deciding.mean(axis=0).tolist(), "loss": scores.loss.mean(axis=0).tolist()}
            self._history.append({"step": trainer.global_step, **means})
        super().on_validation_end(trainer, pl_module)

    def show(self, trainer: L.Trainer, model: MetaLearner, step: int) -> None:
        if len(self._history[-1]["loss"]) == 1:
            return  # no adaptation, nothing that the curves do not show
        steps, figures, loss = (np.array([entry[key] for entry in self._history]) for key in ("step", "score", "loss"))
        figure = adaptation_over_time(steps, figures, loss, score(model.objective.monitor))
        show_figure(trainer, "val/adaptation_over_time", figure, step)

    def state_dict(self) -> dict[str, Any]:
        return {"history": [dict(entry) for entry in self._history]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._history = list(state_dict["history"])
