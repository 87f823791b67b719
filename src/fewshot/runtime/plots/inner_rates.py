"""The inner learning rates that the outer loop has learned."""

import lightning as L
import torch

from fewshot.evaluation.figures import rate_map
from fewshot.models.base import MetaLearner
from fewshot.models.maml import MAML
from fewshot.runtime.plots.at_validation import AtValidation
from fewshot.runtime.plots.loggers import show_figure


class LearnedRates(AtValidation):
    """A heat map of learned rates, layer by step; nothing where rates are fixed or there is no inner loop."""

    def show(self, trainer: L.Trainer, model: MetaLearner, step: int) -> None:
        if isinstance(model, MAML) and len(model.rates.learned):
            names = model.inner.adapted_names(model.network)
            show_figure(trainer, "train/inner_rates", rate_map(rate_table(model).numpy(), names), step)


def rate_table(model: MAML) -> torch.Tensor:
    """``(layers, steps)`` the rate of each adapted parameter tensor at each step, of rates for single weights the mean."""
    steps = [model.rates.at(step) for step in range(model.inner.steps)]
    return torch.tensor([[float(torch.as_tensor(rate).mean()) for rate in of_step] for of_step in steps]).T
