"""What all meta-learners share: the outer step, and honest records of evaluation."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, cast

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from fewshot.errors import UserError
from fewshot.evaluation.record import TaskRecord, TaskScores
from fewshot.evaluation.results import metrics_of
from fewshot.tasks import TaskBatch

SCHEMA = 1
"""Of what is added to a checkpoint; raised when its meaning changes."""

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
SchedulerFactory = Callable[[torch.optim.Optimizer], LRScheduler]


class MetaLearner(L.LightningModule, ABC):
    """A model that learns from tasks, under manual optimization: one `TaskBatch` is one outer step.

    Args:
        network: the outer loop's parameters. It must keep no running statistics: one task's data would reach the next.
        optimizer: makes the outer optimizer.
        scheduler: makes its learning-rate schedule, stepped once an outer step; None keeps the rate.
        gradient_clip: ``{"val": ..., "algorithm": "value" | "norm"}`` for the meta-gradient; None leaves it alone.

    Attributes:
        scores: of the last evaluation of each split, ``val`` or ``test``.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None = None,
        gradient_clip: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        _refuse_running_statistics(network)
        self.network = network
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._gradient_clip = gradient_clip
        self._val_record, self._test_record = TaskRecord(), TaskRecord()
        self.scores: dict[str, TaskScores] = {}

    @abstractmethod
    def meta_gradient(self, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        """Adds the gradient of the mean query loss over tasks to ``.grad``.

        Returns:
            query losses ``(T,)`` and query outputs ``(T, N*Q, N)``, detached.
        """

    @abstractmethod
    def evaluate(self, batch: TaskBatch) -> Tensor:
        """Query outputs before adaptation and after each step, ``(T, steps+1, N*Q, N)``."""

    @property
    @abstractmethod
    def description(self) -> dict[str, Any]:
        """What the protocol of a result says of this model: plain values."""

    def training_step(self, batch: TaskBatch, batch_idx: int) -> None:
        """One outer step."""
        optimizer = cast(LightningOptimizer, self.optimizers())
        optimizer.zero_grad()
        losses, outputs = self.meta_gradient(batch)
        if self._gradient_clip is not None:
            self.clip_gradients(optimizer.optimizer, self._gradient_clip["val"], self._gradient_clip["algorithm"])
        # Through Lightning's wrapper: only then do global_step and checkpoints advance.
        optimizer.step()
        scheduler = cast(LRScheduler | None, self.lr_schedulers())
        if scheduler is not None:
            scheduler.step()
        accuracy = (outputs.argmax(dim=-1) == batch.query_y).float().mean()
        self.log("train/loss", losses.mean(), prog_bar=True, batch_size=len(batch))
        self.log("train/acc", accuracy, prog_bar=True, batch_size=len(batch))

    def validation_step(self, batch: TaskBatch, batch_idx: int) -> None:
        """Records a meta-batch of validation tasks."""
        self._record("val", batch)

    def test_step(self, batch: TaskBatch, batch_idx: int) -> None:
        """Records a meta-batch of test tasks."""
        self._record("test", batch)

    def on_validation_epoch_end(self) -> None:
        self._conclude("val")

    def on_test_epoch_end(self) -> None:
        self._conclude("test")

    def configure_optimizers(self) -> Any:
        optimizer = self._optimizer(self.network.parameters())
        if self._scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self._scheduler(optimizer), "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["fewshot"] = {
            "schema": SCHEMA,
            "model": type(self).__name__,
            "shapes": self._shapes(),
            "val_metrics": metrics_of("val", self.scores["val"]) if "val" in self.scores else {},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint of something else, before PyTorch lists every tensor that does not fit."""
        saved = checkpoint.get("fewshot")
        if not isinstance(saved, dict) or saved.get("schema") != SCHEMA:
            raise UserError(f"the checkpoint is not one of this project's (schema {SCHEMA}); choose one that train.py wrote")
        if saved["model"] != type(self).__name__:
            raise UserError(f"the checkpoint is of model {saved['model']}, the config asks for {type(self).__name__}")
        here = self._shapes()
        for name in sorted(here.keys() | saved["shapes"].keys()):
            if here.get(name) != saved["shapes"].get(name):
                raise UserError(
                    f"the checkpoint's network has {name} of shape {saved['shapes'].get(name)}, the config's {here.get(name)}; "
                    "give the backbone and data set that the checkpoint was trained with"
                )

    def _shapes(self) -> dict[str, list[int]]:
        return {name: list(parameter.shape) for name, parameter in self.network.named_parameters()}

    def _record(self, split: str, batch: TaskBatch) -> None:
        outputs = self.evaluate(batch)
        targets = batch.query_y[:, None].expand(outputs.shape[:-1])
        loss = F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), reduction="none").view(targets.shape).mean(dim=-1)
        accuracy = (outputs.argmax(dim=-1) == targets).double().mean(dim=-1)
        self._record_of(split).update(batch.index, accuracy, loss)

    def _record_of(self, split: str) -> TaskRecord:
        return self._val_record if split == "val" else self._test_record

    def _conclude(self, split: str) -> None:
        record = self._record_of(split)
        scores = record.scores()
        record.reset()
        self.scores[split] = scores
        metrics = metrics_of(split, scores)
        self.log_dict(metrics, rank_zero_only=True, prog_bar=split == "val")


def _refuse_running_statistics(network: nn.Module) -> None:
    for name, module in network.named_modules():
        if getattr(module, "running_mean", None) is not None:
            raise UserError(
                f"model.backbone: {name} ({type(module).__name__}) keeps running statistics, through which one task's data "
                "would reach the next; use fewshot.backbones.norm.BatchNorm"
            )
