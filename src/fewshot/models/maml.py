"""Model-agnostic meta-learning: an initialisation from which a few gradient steps solve a new task.

Finn, Abbeel, Levine (2017), "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", Algorithm 1:

    1  initialise theta                                      the backbone and its head
    2  while not done:                                       Lightning's fit loop
    3      sample a batch of tasks                           `EpisodicDataModule`
    4      for each task:                                    `Engine.meta_gradient`, many tasks at a time
    5          gradient of the support loss at theta           `FastWeights.support_gradients`
    6          theta' = theta - alpha * gradient               `FastWeights.step`, once an adaptation step
    8      theta <- theta - beta * gradient of the sum       `Unrolled.outer_gradients`, the gradient of a chunk of tasks
               over tasks of the query loss at theta'          `MetaLearner.training_step`, the step

The outer loss is the mean over tasks rather than their sum, so that the outer rate does not depend on the meta-batch size.

Its relatives are this class with another `InnerLoop`, each by the file of its name in ``configs/model``:

    fomaml          the inner gradients are constants
    anil, boil      the head alone is adapted, or all but the head
    metasgd         a learned rate for each weight
    mamlpp          learned rates for each step, annealed query losses and order, a batch norm for each step
    metacurvature   learned matrices times the inner gradients
    kfo
    imaml           a pull to the start, and the implicit gradient
    reptile         no query loss: the outer loop follows the weights
"""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from lightning.pytorch.trainer.states import TrainerStatus
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from fewshot.backbones.backbone import Backbone
from fewshot.backbones.dropblock import DropBlock
from fewshot.backbones.init import xavier_
from fewshot.backbones.norm import BatchNorm, has_batch_norm
from fewshot.errors import UserError
from fewshot.inner.call import features
from fewshot.inner.engine import AUTO, Engine, engine_kind, fastest_engine
from fewshot.inner.fast_weights import Loss, TaskInit
from fewshot.inner.inner_loop import InnerLoop
from fewshot.inner.memory import Forecast, forecast
from fewshot.models.adapted import FirstOutputs, adapted_weights, keep_statistics, with_weights
from fewshot.models.base import MetaLearner, OptimizerFactory
from fewshot.models.cost import multiply_adds
from fewshot.objectives import Classification, Objective
from fewshot.tasks.batch import TaskBatch

log = logging.getLogger(__name__)


class MAML(MetaLearner):
    """MAML and its relatives over any backbone.

    Attributes:
        fixed_ways: whether the head has an output for each of a fixed number of classes.

    Args:
        name: of the method, as results have it.
        backbone: from images to features.
        ways: classes of a training task, or the fewest and the most; the head tells the most apart.
        eval_ways: classes of a validation or test task likewise. Tasks of fewer classes than the head tells apart use its first
            outputs.
        inner: the inner loop.
        engine: what computes it, a module ``fewshot.inner.<engine>_engine``; ``auto`` takes the fastest for each batch.
        batch_norm: ``transductive`` or ``inductive`` (`Engine`).
        norm_per_step: whether batch normalisation has a scale and shift for each inner step (Antoniou et al. 2019, section
            3.1, BNWB). The paper's statistics for each step (BNRS) are running ones, which its code gathers and never
            normalises by; here as there, every step is normalised by its own batch.
        optimizer: of the outer loop.
        objective: of the tasks; None classifies.
        outer: what else the outer loop takes (`MetaLearner`).
    """

    fixed_ways = True
    objectives: ClassVar[tuple[str, ...]] = ("classification", "regression")
    remedy_of_divergence: ClassVar[str] = "; lower model.inner.lr or model.inner.eval_steps"

    def __init__(
        self,
        backbone: Backbone,
        ways: int | Sequence[int],
        eval_ways: int | Sequence[int],
        inner: InnerLoop,
        engine: str,
        batch_norm: str,
        optimizer: OptimizerFactory,
        name: str = "MAML",
        norm_per_step: bool = False,
        objective: Objective | None = None,
        **outer: Any,
    ) -> None:
        ways, eval_ways = (number if isinstance(number, int) else max(number) for number in (ways, eval_ways))
        objective = objective or Classification("acc", "max")
        if eval_ways > ways and self.fixed_ways:
            raise UserError(
                f"data.eval.ways={eval_ways} but the network tells {ways} classes apart (data.ways in training); "
                f"choose data.eval.ways<={ways}"
            )
        _refuse_dropout(backbone)
        head = self.new_head(backbone.out_features, objective.width(ways))
        network = nn.Sequential(OrderedDict(features=backbone, head=head))
        _refuse_adapting_frozen(backbone, inner, network)
        for norm in network.modules():
            if norm_per_step and isinstance(norm, BatchNorm):
                norm.for_each_step(inner.steps)
        super().__init__(network, optimizer, objective=objective, **outer)
        self.inner = inner
        self.rates = inner.new_rates(network)
        self._names = {"model": name, "backbone": getattr(backbone, "title", type(backbone).__name__)}
        self._batch_norm = batch_norm if has_batch_norm(network) else "none"
        self._input_shape = backbone.input_shape
        self._ways, self._eval_ways, self._engine_asked, self._norm_per_step = ways, eval_ways, engine, norm_per_step
        self._batch_norm_mode, self._eval_engine = batch_norm, engine
        self.use_engine(engine)

    def new_head(self, features: int, outputs: int) -> nn.Linear:
        """The layer from features to outputs."""
        head = nn.Linear(features, outputs)
        xavier_(head)
        return head

    def task_init(self, ways: int) -> TaskInit | None:
        """What a task of so many classes begins with instead of the network's own parameters."""
        return None

    def meta_gradient(self, batch: TaskBatch, tasks: int | None = None) -> tuple[Tensor, ...]:
        losses, outputs = self.engine_for(batch).meta_gradient(batch, tasks or len(batch), self.global_step)
        return losses, outputs[..., : self._ways_of(batch, self._ways)]

    def evaluate(self, batch: TaskBatch) -> Tensor:
        self.warn_of_single_query(batch, self._batch_norm)
        ways = self._ways_of(batch, self._eval_ways)
        engine = self._engine_of(ways, batch)
        self._eval_engine = engine.name
        return engine.adaptation_path(batch, self.inner.eval_steps)[..., : self.objective.width(ways)]

    @torch.no_grad()
    def features_of(self, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        body = self.network.get_submodule("features")
        normalised = partial(features, body, batch_norm=self._batch_norm_mode)
        support, query = zip(*(normalised(task.support_x, task.query_x) for task in batch), strict=True)
        return torch.stack(support), torch.stack(query)

    def adapted(self, task: TaskBatch) -> nn.Module:
        ways, steps = self._ways_of(task, self._eval_ways), self.inner.eval_steps
        weights = adapted_weights(self._engine_of(ways, task), task, steps)
        network = with_weights(self.network, weights, step=max(steps - 1, 0))
        if self._batch_norm == "inductive":
            keep_statistics(network, task.support_x[0])
        return FirstOutputs(network, self.objective.width(ways))

    @property
    def most_ways(self) -> int | None:
        return self._ways if self.fixed_ways and self.objective.name == "classification" else None

    def _ways_of(self, batch: TaskBatch, usual: int) -> int:
        """Classes of each of these tasks."""
        ways = usual if batch.rows.class_id is None else batch.ways
        if ways > self._ways and self.fixed_ways:
            raise UserError(
                f"tasks of {ways} classes, but the network tells {self._ways} apart; choose data.eval.ways<={self._ways}"
            )
        return ways

    def engine_for(self, batch: TaskBatch) -> Engine:
        """What computes the inner loop of such training tasks."""
        return self._engine_of(self._ways_of(batch, self._ways), batch)

    def _engine_of(self, ways: int, batch: TaskBatch) -> Engine:
        """What computes the inner loop of a batch of tasks of so many classes."""
        name = fastest_engine(batch) if self._engine_name == AUTO else self._engine_name
        if (name, ways) not in self._engines:
            if all(name != known for known, _ in self._engines) and self._is_at_work:
                x, shape = batch.support_x, "x".join(str(size) for size in batch.support_x.shape[2:])
                rows = x.shape[1] + batch.query_x.shape[1]
                log.info(f"Inner loop: model.engine={name}, chosen for {rows} inputs of {shape} on {x.device.type}")
            self._engines[name, ways] = self._new_engine(name, ways)
        return self._engines[name, ways]

    @property
    def _is_at_work(self) -> bool:
        """Whether a trainer trains or evaluates it; what is computed after a run, as its calibration, is none of the run's."""
        return self._trainer is not None and self._trainer.state.status == TrainerStatus.RUNNING

    def _new_engine(self, name: str, ways: int) -> Engine:
        loss: Loss = self.objective.loss
        if ways != self._ways:
            loss = partial(_loss_of_first, self.objective, self.objective.width(ways))
        return engine_kind(name)(self.network, self.inner, self.rates, loss, self._batch_norm_mode, self.task_init(ways))

    def use_engine(self, name: str) -> None:
        """Computes the inner loop by the engine of this name from now on, or by the fastest for each batch (``auto``).

        Raises:
            UserError: there is no such engine, or it cannot compute this inner loop.
        """
        engine = self._new_engine("functional" if name == AUTO else name, self._ways)
        self._engine_name = name
        self._engines: dict[tuple[str, int], Engine] = {} if name == AUTO else {(name, self._ways): engine}

    def memory_forecast(self, batch: TaskBatch) -> Forecast:
        return forecast(self.engine_for(batch), batch)

    @property
    def description(self) -> dict[str, Any]:
        return {
            **self._names,
            "batch_norm": self._batch_norm,
            "engine": self._engine_asked,
            "eval_engine": self._eval_engine,
            "parameters": sum(parameter.numel() for parameter in self.learned),
            "forward_multiply_adds": multiply_adds(self.network, self._input_shape),
            **self.inner.description,
            "norm_per_step": self._norm_per_step,
            "transductive": self._batch_norm == "transductive",
        }


def _refuse_dropout(backbone: Backbone) -> None:
    drops = [module for module in backbone.modules() if isinstance(module, _DropoutNd | DropBlock)]
    if any(drop.rate if isinstance(drop, DropBlock) else drop.p for drop in drops):
        raise UserError("model.backbone.drop_rate: an inner loop would adapt to what happened to be left; set it to 0")


def _refuse_adapting_frozen(backbone: Backbone, inner: InnerLoop, network: nn.Sequential) -> None:
    """Refuses patterns in ``model.inner.adapt`` that name weights of a frozen backbone, the first part of the network."""
    parameters = list(backbone.parameters())
    if any(inner.adapted(network)[: len(parameters)]) and not any(parameter.requires_grad for parameter in parameters):
        raise UserError(
            f"model.inner.adapt={list(inner.adapt)} names weights of {type(backbone).__name__}, which are frozen; adapt "
            "the head alone: model.inner.adapt=[head.*]"
        )


def _loss_of_first(objective: Objective, width: int, outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of the first outputs alone, those that a task has classes for."""
    return objective.loss(outputs[:, :width], targets)
