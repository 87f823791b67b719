"""Model-agnostic meta-learning: an initialisation from which a few gradient steps solve a new task.

Finn, Abbeel, Levine (2017), "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", Algorithm 1:

    1  initialise theta                                      the backbone and its head
    2  while not done:                                       Lightning's fit loop
    3      sample a batch of tasks                           `EpisodicDataModule`
    4      for each task:                                    `Engine.meta_gradient`
    5          gradient of the support loss at theta           the inner loop
    6          theta' = theta - alpha * gradient               lines 5 and 6 once an adaptation step
    8      theta <- theta - beta * gradient of the sum       `MetaLearner.training_step`
               over tasks of the query loss at theta'          the outer loop

The outer loss is the mean over tasks rather than their sum, so that the outer rate does not depend on the meta-batch size.
"""

from collections import OrderedDict
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from fewshot.backbones.backbone import Backbone
from fewshot.backbones.dropblock import DropBlock
from fewshot.backbones.init import xavier_
from fewshot.errors import UserError
from fewshot.inner.engine import build_engine
from fewshot.inner.loop import InnerLoop
from fewshot.inner.memory import Forecast, forecast
from fewshot.inner.rates import InnerRates
from fewshot.models.base import MetaLearner, OptimizerFactory
from fewshot.models.cost import multiply_adds
from fewshot.tasks import TaskBatch


class MAML(MetaLearner):
    """MAML and first-order MAML over any backbone.

    Args:
        backbone: from images to features.
        ways: classes that the head tells apart, as many as a training task has.
        eval_ways: classes of a validation or test task. Fewer than `ways` use the head's first outputs.
        inner: the inner loop.
        engine: what computes it, a module ``fewshot.inner.<engine>_engine``; ``auto`` chooses the fastest.
        batch_norm: ``transductive`` or ``inductive`` (`Engine`).
        optimizer: of the outer loop.
        outer: what else the outer loop takes (`MetaLearner`).
    """

    def __init__(
        self,
        backbone: Backbone,
        ways: int,
        eval_ways: int,
        inner: InnerLoop,
        engine: str,
        batch_norm: str,
        optimizer: OptimizerFactory,
        **outer: Any,
    ) -> None:
        if eval_ways > ways:
            raise UserError(
                f"data.eval.ways={eval_ways} but the network tells {ways} classes apart (data.ways in training); "
                f"choose data.eval.ways<={ways}"
            )
        if any(isinstance(module, nn.Dropout | DropBlock) for module in backbone.modules()):
            raise UserError("model.backbone.drop_rate: an inner loop would adapt to what happened to be left; set it to 0")
        head = nn.Linear(backbone.out_features, ways)
        xavier_(head)
        network = nn.Sequential(OrderedDict(features=backbone, head=head))
        super().__init__(network, optimizer, **outer)
        self.inner = inner
        self.rates = InnerRates(inner, network)
        self._names = {"batch_norm": batch_norm, "backbone": type(backbone).__name__}
        self._input_shape = backbone.input_shape
        self._eval_ways, self._engine_asked = eval_ways, engine
        self._engine = build_engine(engine, network, inner, self.rates, F.cross_entropy, batch_norm)
        self._evaluator = build_engine(engine, network, inner, self.rates, self._eval_loss, batch_norm)

    def meta_gradient(self, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        return self._engine.meta_gradient(batch, len(batch))

    def evaluate(self, batch: TaskBatch) -> Tensor:
        return self._evaluator.adaptation_path(batch, self.inner.eval_steps)[..., : self._eval_ways]

    def memory_forecast(self, batch: TaskBatch) -> Forecast:
        return forecast(self._engine, batch)

    def _eval_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Of the outputs that a validation or test task has classes for."""
        return F.cross_entropy(outputs[:, : self._eval_ways], targets)

    @property
    def description(self) -> dict[str, Any]:
        return {
            "model": "MAML",
            "engine": self._engine_asked,
            "eval_engine": self._evaluator.name,
            **self._names,
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "forward_multiply_adds": multiply_adds(self.network, self._input_shape),
            "order": 1 if self.inner.first_order else 2,
            "inner_lr": self.inner.lr,
            "train_steps": self.inner.steps,
            "eval_steps": self.inner.eval_steps,
            "adapt_norm": self.inner.adapt_norm,
            "adapt": list(self.inner.adapt),
            "inner_rates": self.inner.rates,
            "transductive": self._names["batch_norm"] == "transductive",
        }
