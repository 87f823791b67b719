"""Models that compare queries with the support set in an embedding: no inner loop, one forward pass for all tasks."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from fewshot.backbones.backbone import Backbone
from fewshot.backbones.layout import fastest_layout
from fewshot.backbones.norm import has_batch_norm
from fewshot.backbones.statistics import RunningStatistics, by_task
from fewshot.errors import UserError, suggest
from fewshot.models.adapted import keep_statistics
from fewshot.models.base import MetaLearner, OptimizerFactory
from fewshot.models.cost import multiply_adds
from fewshot.objectives import one_hot
from fewshot.tasks.batch import TaskBatch

BATCH_NORM_MODES = ("running", "transductive", "inductive")


class EmbeddingLearner(MetaLearner):
    """Embeds the images of all tasks at once, then compares; trained on the mean query loss of its tasks.

    In training each task is normalised by its own images, support and query together, as published code does that has one
    task a step; so tasks may be shared between processes at will.

    Args:
        backbone: from images to features.
        batch_norm: of validation and test tasks. ``running``: by the statistics of training tasks, as published; every query is
            predicted alone. ``transductive``: by the task's own images, as in training. ``inductive``: by the task's support
            set, in training as well.
        optimizer: of the outer loop.
        parts: what else is learned, by name.
        outer: what else the outer loop takes (`MetaLearner`).
    """

    def __init__(
        self,
        backbone: Backbone,
        batch_norm: str,
        optimizer: OptimizerFactory,
        parts: Mapping[str, nn.Module] | None = None,
        **outer: Any,
    ) -> None:
        if batch_norm not in BATCH_NORM_MODES:
            raise UserError(f"model.batch_norm={batch_norm} is unknown{suggest(batch_norm, BATCH_NORM_MODES)}")
        super().__init__(nn.ModuleDict({"features": backbone, **(parts or {})}), optimizer, **outer)
        self.statistics = RunningStatistics(self.network)
        self._batch_norm, self._backbone = batch_norm, backbone
        self._show_statistics()

    @abstractmethod
    def fit_head(self, support: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """What queries are compared with: tensors whose first dimension is the task, from a support set alone.

        Args:
            support: features ``(T, N*K, D)``
            labels: of the support set, ``(T, N*K)``
        """

    @abstractmethod
    def apply_head(self, head: tuple[Tensor, ...], query: Tensor) -> Tensor:
        """Outputs for the queries ``(T, N*Q, N)``, from what `fit_head` has made and features ``(T, N*Q, D)``."""

    def compare(self, support: Tensor, labels: Tensor, query: Tensor) -> Tensor:
        """Outputs for the queries ``(T, N*Q, N)``; where they do not depend on each other, through a head.

        Args:
            support: features ``(T, N*K, D)``
            labels: of the support set, ``(T, N*K)``
            query: features ``(T, N*Q, D)``
        """
        return self.apply_head(self.fit_head(support, labels), query)

    def meta_gradient(self, batch: TaskBatch, tasks: int | None = None) -> tuple[Tensor, ...]:
        with self.in_training(batch) as statistics:
            outputs = self._outputs(batch)
        losses = self.training_losses(outputs, batch.query_y).mean(dim=-1)
        (losses.sum() / (tasks or len(batch))).backward()  # type: ignore[no-untyped-call]
        share = len(batch) / (tasks or len(batch))
        return losses.detach(), outputs.detach(), *(share * seen for seen in statistics)

    def training_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Of each query in training ``(T, N*Q)``, from outputs ``(T, N*Q, N)`` and labels ``(T, N*Q)``."""
        return self.query_losses(outputs, targets)

    def evaluate(self, batch: TaskBatch) -> Tensor:
        self.warn_of_single_query(batch, self._batch_norm if has_batch_norm(self.network) else "none")
        with torch.no_grad(), self.in_evaluation(batch):
            return self._outputs(batch)[:, None]

    def features_of(self, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        with torch.no_grad(), self.in_evaluation(batch):
            support, query = self.embed(batch)
        return support.flatten(2), query.flatten(2)

    def adapted(self, task: TaskBatch) -> nn.Module:
        if self.description["transductive"]:
            return super().adapted(task)
        model = deepcopy(self).eval().requires_grad_(False)
        if self.description["batch_norm"] == "inductive":
            keep_statistics(model.network["features"], task.support_x[0])  # type: ignore[index]
        return Comparison(model, model.fit_head(model.features(task.support_x[0])[None], task.support_y))

    def embed(self, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        """Features of support ``(T, N*K, ...)`` and query set ``(T, N*Q, ...)``."""
        images = torch.cat([batch.support_x, batch.query_x], dim=1)
        features = self.features(fastest_layout(images.flatten(0, 1)))
        features = features.view(*images.shape[:2], *features.shape[1:])
        shots = batch.support_x.shape[1]
        return features[:, :shots], features[:, shots:]

    def features(self, images: Tensor) -> Tensor:
        """Of images ``(B, C, H, W)``, in single precision at least."""
        features: Tensor = self._backbone(images)
        return features.to(torch.promote_types(features.dtype, torch.float32))

    @contextmanager
    def in_training(self, batch: TaskBatch) -> Iterator[tuple[Tensor, Tensor]]:
        """Within it, tasks are normalised as in training; yields their statistics (`RunningStatistics.gathering`)."""
        with self.statistics.gathering(self.network, len(batch), self._rows(batch)) as statistics:
            yield statistics

    @contextmanager
    def in_evaluation(self, batch: TaskBatch) -> Iterator[None]:
        """Within it, a meta-batch is normalised as in validation and test."""
        running = self._batch_norm == "running"
        with self.statistics.applied(self.network) if running else by_task(len(batch), self._rows(batch)):
            yield

    def move_averages(self, *seen: Tensor) -> None:
        mean, variance = seen
        self.statistics.move(mean, variance)
        self._show_statistics()

    def load_state_dict(self, *arguments: Any, **options: Any) -> Any:
        found = super().load_state_dict(*arguments, **options)
        self._show_statistics()
        return found

    def _show_statistics(self) -> None:
        """Lets modules that are taken out of the network compute in evaluation what they compute in it."""
        if self._batch_norm == "running":
            self.statistics.show(self.network)

    @property
    def description(self) -> dict[str, Any]:
        return {
            "model": type(self).__name__,
            "engine": None,
            "backbone": getattr(self._backbone, "title", type(self._backbone).__name__),
            "batch_norm": self._batch_norm if has_batch_norm(self.network) else "none",
            "transductive": self._batch_norm == "transductive" and has_batch_norm(self.network),
            "adapt": [],
            "eval_steps": 0,
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "forward_multiply_adds": multiply_adds(self._backbone, self._backbone.input_shape),
        }

    def _outputs(self, batch: TaskBatch) -> Tensor:
        support, query = self.embed(batch)
        # Distances and linear systems lose too much at 16 bits.
        with torch.autocast(support.device.type, enabled=False):
            return self.compare(support, batch.support_y, query)

    def _rows(self, batch: TaskBatch) -> int | None:
        return batch.support_x.shape[1] if self._batch_norm == "inductive" else None


class Comparison(nn.Module):
    """A network of features and a task's head.

    Args:
        model: whose features and comparison they are.
        head: of a batch of one task.
    """

    def __init__(self, model: EmbeddingLearner, head: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.model, self._parts = model, len(head)
        for number, part in enumerate(head):
            self.register_buffer(f"head{number}", part.detach())

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``(B, N)`` for inputs ``(B, ...)``."""
        head = tuple(self.get_buffer(f"head{number}") for number in range(self._parts))
        return self.model.apply_head(head, self.model.features(x)[None])[0]


def class_means(support: Tensor, labels: Tensor) -> Tensor:
    """The mean of each class's features, ``(T, N, D)``, from features ``(T, N*K, D)`` and labels ``(T, N*K)``."""
    members = one_hot(labels, support)
    return members.mT @ support / members.sum(dim=1).unsqueeze(-1)
