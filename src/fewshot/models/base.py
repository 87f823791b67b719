"""What all meta-learners share: the outer step, and the records of validation and test."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, ClassVar, cast

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.lr_scheduler import LRScheduler

from fewshot.errors import UserError, suggest
from fewshot.evaluation.results import metrics_of
from fewshot.evaluation.task_scores import PredictionRecord, TaskRecord, TaskScores
from fewshot.inner.memory import Forecast, peak_bytes
from fewshot.models.all_reduce import average_over_tasks, smallest
from fewshot.models.checkpoint_entry import SCHEMA, require_same_model, shapes_of
from fewshot.objectives import Classification, Objective, Predictions
from fewshot.tasks.batch import MetaBatch, TaskBatch, count_tasks
from fewshot.tasks.streams import stream_key

log = logging.getLogger(__name__)

ON_NONFINITE = ("stop", "skip")
LAST_TASK = 2**62
"""Larger than any task's number."""

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
SchedulerFactory = Callable[[torch.optim.Optimizer], LRScheduler]


class MetaLearner(L.LightningModule, ABC):
    """A model that learns from tasks, under manual optimization: one meta-batch is one outer step.

    Args:
        network: the outer loop's parameters, with those that a subclass adds. It must keep no running statistics: one task's
            data would reach the next. (Those of a frozen part never move.)
        optimizer: makes the outer optimizer.
        scheduler: makes its learning-rate schedule, stepped once an outer step; None keeps the rate.
        gradient_clip: ``{"val": ..., "algorithm": "value" | "norm"}`` for the meta-gradient; None leaves it alone.
        on_nonfinite: what an outer step does whose loss or meta-gradient is infinite or not a number: ``stop`` the run, or
            ``skip`` the step, leaving the weights as they are.
        seed: of what is random in an outer step.
        objective: of the tasks; None classifies, and accuracy decides.

    Attributes:
        objectives: names of the objectives that this kind of model can have.
        remedy_of_divergence: the end of a message that outputs are not finite; none where no setting is to blame.
        inputs: what inputs it can have: ``images``, ``text``, ``vectors`` or ``ratings``.
        skipped_steps: outer steps skipped so far.
        scores: of the last evaluation of each split, ``val`` or ``test``.
    """

    objectives: ClassVar[tuple[str, ...]] = ("classification",)
    remedy_of_divergence: ClassVar[str] = ""
    inputs: ClassVar[tuple[str, ...]] = ("images", "text", "vectors", "ratings")

    def __init__(
        self,
        network: nn.Module,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None = None,
        gradient_clip: dict[str, Any] | None = None,
        on_nonfinite: str = "stop",
        seed: int = 0,
        objective: Objective | None = None,
    ) -> None:
        super().__init__()
        self.objective = objective or Classification("acc", "max")
        if self.objective.name not in self.objectives:
            raise UserError(f"objective={self.objective.name} but {type(self).__name__} learns {' and '.join(self.objectives)}")
        if on_nonfinite not in ON_NONFINITE:
            raise UserError(f"model.on_nonfinite={on_nonfinite} is unknown{suggest(on_nonfinite, ON_NONFINITE)}")
        self.automatic_optimization = False
        _refuse_shared_statistics(network)
        self.network = network
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._gradient_clip = gradient_clip
        self._on_nonfinite = on_nonfinite
        self._seed = seed
        self._warned_of_single_query = False
        self.skipped_steps = 0
        scores, last = (*self.objective.step_scores, "loss"), self.objective.last_scores
        self._val_record, self._test_record = TaskRecord(scores, last), TaskRecord(scores, last)
        self._predictions = PredictionRecord()
        self.scores: dict[str, TaskScores] = {}

    @abstractmethod
    def meta_gradient(self, batch: TaskBatch, tasks: int | None = None) -> tuple[Tensor, ...]:
        """Adds the gradient of the summed query losses of the batch's tasks, divided by `tasks`, to ``.grad``.

        Args:
            batch: tasks of one size.
            tasks: those of the meta-batch that they belong to; None where they are all of it.

        Returns:
            query losses ``(T,)`` and query outputs ``(T, N*Q, N)``, detached. Then, in a model with running averages, what the
            tasks of the batch add to the mean over those of the meta-batch, which `move_averages` takes.
        """

    @abstractmethod
    def evaluate(self, batch: TaskBatch) -> Tensor:
        """Query outputs before adaptation and after each step, ``(T, steps+1, N*Q, N)``."""

    def features_of(self, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        """Features of support ``(T, S, D)`` and query sets ``(T, B, D)`` before adaptation; the inputs where there are none."""
        return batch.support_x.flatten(2), batch.query_x.flatten(2)

    def adapted(self, task: TaskBatch) -> nn.Module:
        """The model adapted to one task: inputs ``(B, ...)`` to outputs ``(B, N)``, up to rounding the last of `evaluate`.

        Args:
            task: a batch of one task, whose queries are not looked at.
        """
        return Episode(self, task)

    @property
    def learned(self) -> list[nn.Parameter]:
        """The parameters that the outer loop trains."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @property
    def takes_outer_steps(self) -> bool:
        """Whether there is anything that outer steps could train; else it is tested as it is, or as `FitsRows` left it."""
        return bool(self.learned)

    @property
    def most_ways(self) -> int | None:
        """Classes that it tells apart in a task, at the most; None where a head is made for each task."""
        return None

    @property
    @abstractmethod
    def description(self) -> dict[str, Any]:
        """The entries of this model in the protocol of a result: plain values.

        At least its name (``model``), ``backbone``, ``batch_norm``, whether it is ``transductive``, what it adapts to a task
        (``adapt``), adaptation steps in evaluation (``eval_steps``), ``parameters``, and ``forward_multiply_adds`` of a query.
        """

    def warn_of_single_query(self, batch: TaskBatch, batch_norm: str) -> None:
        """Warns once of a query that transductive batch normalisation normalises by nothing but itself."""
        if batch_norm == "transductive" and batch.query_x.shape[1] == 1 and not self._warned_of_single_query:
            self._warned_of_single_query = True
            log.warning(
                "a single query is normalised by itself alone (transductive batch norm), which costs accuracy: ask for "
                "several at once, or set model.batch_norm=inductive"
            )

    def memory_forecast(self, batch: TaskBatch) -> Forecast:
        """What an outer step on such tasks needs, measured on the first; leaves no gradient behind."""
        peak = peak_bytes(lambda: self.meta_gradient(batch.slice(0, 1)))
        for parameter in self.parameters():
            parameter.grad = None
        return Forecast(0, len(batch), len(batch) * peak, None)

    def query_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Of each query in evaluation ``(...)``, from outputs ``(..., N)`` and labels ``(...)``."""
        return self.objective.losses(outputs, targets)

    def move_averages(self, *seen: Tensor) -> None:
        """Moves running averages towards the means over all tasks of an outer step, once the optimizer has stepped."""

    def on_train_batch_start(self, batch: MetaBatch, batch_idx: int) -> None:
        """Makes what is random in an outer step (dropout) a function of the run's seed and the step, not of the past."""
        seed = int(stream_key("outer step", self._seed, self.trainer.global_step)[0] >> 1)
        # torch.manual_seed also notes where it was called from, for a GPU that may be used later: a millisecond.
        (torch.default_generator.manual_seed if self.device.type == "cpu" else torch.manual_seed)(seed)

    def training_step(self, batch: MetaBatch, batch_idx: int) -> None:
        """One outer step."""
        optimizer, monitor = cast(LightningOptimizer, self.optimizers()), self.objective.monitor
        parameters = self.learned
        for parameter in parameters:
            parameter.grad = None
        found = [self.meta_gradient(part, count_tasks(batch)) for part in batch]
        of_losses, of_outputs, *of_averages = zip(*found, strict=True)
        losses = torch.cat(of_losses)
        averages = [torch.stack(of_parts).sum(dim=0) for of_parts in of_averages]
        scores = [
            self.objective.scores(outputs, part.query_y)[monitor] for outputs, part in zip(of_outputs, batch, strict=True)
        ]
        sums = torch.stack([losses.sum(), torch.cat(scores).to(losses.dtype).sum()])
        tasks, loss, score = average_over_tasks(parameters, count_tasks(batch), sums, averages)
        if self._finite(parameters, loss, *averages):
            if self._gradient_clip is not None:
                self.clip_gradients(optimizer.optimizer, self._gradient_clip["val"], self._gradient_clip["algorithm"])
            # Through Lightning's wrapper: only then do global_step and checkpoints advance.
            optimizer.step()
            self.move_averages(*averages)
        else:
            self._skip(optimizer, torch.cat([part.index for part in batch]), losses)
        scheduler = cast(LRScheduler | None, self.lr_schedulers())
        if scheduler is not None:
            scheduler.step()
        self.log("train/loss", loss / tasks, prog_bar=True)
        self.log(f"train/{monitor}", score / tasks, prog_bar=True)

    @staticmethod
    def _finite(parameters: list[nn.Parameter], *others: Tensor) -> bool:
        """Whether the meta-gradient and others are finite: one look at the device, whatever the number of parameters."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        total = torch.stack([tensor.abs().sum() for tensor in (*others, *gradients)]).sum()
        return bool(total.isfinite())

    def _skip(self, optimizer: LightningOptimizer, index: Tensor, losses: Tensor) -> None:
        """Skips an outer step that has no direction, or stops the run; the step counts either way."""
        step = self.trainer.global_step
        bad = index[~losses.isfinite()].tolist()
        first = smallest(min(bad, default=LAST_TASK), losses.device)
        where = f"training task {first}" if first < LAST_TASK else "the meta-gradient"
        if self._on_nonfinite == "stop":
            raise UserError(
                f"outer step {step}: {where} is not finite; the last good checkpoint is kept. Lower model.inner.lr or "
                "model.optimizer.lr, set model.gradient_clip, or set model.on_nonfinite=skip"
            )
        self.skipped_steps += 1
        log.warning(f"Outer step {step} skipped: {where} is not finite ({self.skipped_steps} so far)")
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None  # an optimizer leaves parameters without a gradient alone
        optimizer.step()

    def validation_step(self, batch: MetaBatch, batch_idx: int) -> None:
        """Records a meta-batch of validation tasks."""
        for part in batch:
            self._record("val", part)

    def test_step(self, batch: MetaBatch, batch_idx: int) -> None:
        """Records a meta-batch of test tasks."""
        for part in batch:
            self._record("test", part)

    def on_validation_epoch_end(self) -> None:
        self._conclude("val")

    def on_test_epoch_end(self) -> None:
        self._conclude("test")

    def configure_optimizers(self) -> Any:
        optimizer = self._optimizer(self.learned)
        if self._scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self._scheduler(optimizer), "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["fewshot"] = {
            "schema": SCHEMA,
            "model": type(self).__name__,
            "shapes": shapes_of(self.network),
            "skipped_steps": self.skipped_steps,
            "max_steps": self.trainer.max_steps,
            "val_metrics": metrics_of("val", self.scores["val"]) if "val" in self.scores else {},
            "val_tasks": len(self.scores["val"].index) if "val" in self.scores else 0,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        require_same_model(checkpoint, type(self).__name__, self.network, self.state_dict())

    def _record(self, split: str, batch: TaskBatch) -> None:
        outputs = self.evaluate(batch)
        targets = batch.query_y[:, None].expand(outputs.shape[:-1])
        scores = {**self.objective.scores(outputs, targets), "loss": self.query_losses(outputs, targets).mean(dim=-1)}
        if self.trainer.state.fn != TrainerFn.FITTING:
            last = outputs[:, -1].to(torch.promote_types(outputs.dtype, torch.float32))
            scores |= self.objective.scores_after_last(last, batch.query_y)
            self._predictions.update(self._predicted(batch, last))
        self._record_of(split).update(batch.index, scores)

    def _predicted(self, batch: TaskBatch, outputs: Tensor) -> Predictions:
        """The prediction for each query from outputs ``(T, N*Q, O)``; classes by their numbers in the split."""
        predicted, probability = self.objective.predict(outputs)
        target, classes, rows = batch.query_y, batch.rows.class_id, batch.rows.query
        if classes is not None:
            target, named = classes.gather(1, target), classes.gather(1, predicted.clamp(min=0))
            predicted = torch.where(predicted < 0, predicted, named)
        if rows is None:  # of computed tasks: their queries' places
            rows = torch.arange(target.shape[1], device=target.device).expand(target.shape)
        task = batch.index.unsqueeze(1).expand(target.shape)
        return Predictions(*(values.flatten() for values in (task, rows, target, predicted, probability)))

    def _record_of(self, split: str) -> TaskRecord:
        return self._val_record if split == "val" else self._test_record

    def _conclude(self, split: str) -> None:
        record = self._record_of(split)
        predictions = self._predictions.predictions()
        pooled = self.objective.pooled_scores(predictions) if predictions is not None else {}
        scores = TaskScores(self.objective.monitor, *record.figures(), pooled, predictions)
        record.reset()
        self._predictions.reset()
        self.scores[split] = scores
        if scores.nonfinite_tasks and self.trainer.is_global_zero:
            log.warning(
                f"{scores.nonfinite_tasks} of {len(scores.index)} {split} tasks ended in outputs that are not finite: such "
                f"queries count as wrong{self.remedy_of_divergence}"
            )
        metrics = metrics_of(split, scores)
        self.log_dict(metrics, prog_bar=split == "val")


class Episode(nn.Module):
    """A model with a support set, whose outputs for a query depend on the other queries of a call.

    Args:
        model: that evaluates tasks.
        task: a batch of one task.
    """

    def __init__(self, model: MetaLearner, task: TaskBatch) -> None:
        super().__init__()
        self.model, self._task = model, task

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``(B, N)`` for inputs ``(B, ...)``."""
        blank = self._task.support_y.new_zeros(1, len(x))
        return self.model.evaluate(replace(self._task, query_x=x[None], query_y=blank))[0, -1]


def _refuse_shared_statistics(network: nn.Module) -> None:
    """Refuses PyTorch's own batch norms, through which tasks would reach each other.

    One with running statistics takes them from task to task, unless it is frozen; one without takes the images of several
    tasks for one batch.
    """
    for name, module in network.named_modules():
        learning = any(parameter.requires_grad for parameter in module.parameters())
        remembers = getattr(module, "running_mean", None) is not None
        if (remembers and learning) or (isinstance(module, _BatchNorm) and not remembers):
            raise UserError(
                f"model.backbone: {name} ({type(module).__name__}) keeps running statistics, or takes the images of several "
                "tasks for one batch: one task's data would reach another; use fewshot.backbones.norm.BatchNorm"
            )
