"""What a run leaves behind once it is done: ``results.json``, figures, TensorBoard's final entries, the table."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from omegaconf import DictConfig

from fewshot.data.module import EpisodicDataModule
from fewshot.data.prepared import classes_sha256
from fewshot.evaluation import figures, results
from fewshot.evaluation.files import written_whole
from fewshot.evaluation.record import TaskScores
from fewshot.evaluation.table import print_summary
from fewshot.models.base import MetaLearner
from fewshot.runtime.build import plain
from fewshot.runtime.callbacks import Throughput, the
from fewshot.runtime.provenance import memory_cost, provenance

PICTURED_TASKS = 3


@dataclass
class Report:
    """Gathers what a run found.

    Attributes:
        split: that the figures show: the test split, or the validation split of a run without a test.
        training: size of the training tasks and meta-batches, and number of outer steps.
        val_metrics: of the checkpoint that was kept.
    """

    cfg: DictConfig
    folder: Path
    datamodule: EpisodicDataModule
    model: MetaLearner
    trainer: L.Trainer
    split: str
    training: dict[str, Any]
    val_metrics: dict[str, float] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)

    def write(self) -> dict[str, float]:
        """Writes and prints everything.

        Returns:
            the metrics of ``results.json``.
        """
        scores = self.model.scores[self.split]
        metrics = dict(self.val_metrics)
        test = None
        if self.split == "test":
            metrics |= results.metrics_of("test", scores)
            results.write_per_task(self.folder / "test_tasks.csv", scores)
            test = results.test_section(scores, "test_tasks.csv")
        cost = self.cost | memory_cost()
        protocol = self.protocol()
        self._draw(scores, metrics)
        results.write_results(
            self.folder / "results.json",
            status="completed",
            metrics=metrics,
            test=test,
            protocol=protocol,
            cost=cost,
            provenance=provenance(
                plain(self.cfg, resolve=False), {split: data.images_sha256 for split, data in self.datamodule.prepared.items()}
            ),
        )
        print_summary(metrics, test, protocol, cost, str(self.folder))
        return metrics

    def protocol(self) -> dict[str, Any]:
        """All that a figure depends on, in plain values."""
        data, spec = self.datamodule, self.datamodule.eval_spec
        return {
            "data": data.source.name,
            "split": self.split,
            "splits_sha256": {split: classes_sha256(prepared.classes) for split, prepared in data.prepared.items()},
            "splits_classes": {split: len(prepared.classes) for split, prepared in data.prepared.items()},
            "ways": spec.ways,
            "shots": spec.shots,
            "queries": spec.queries,
            "within_group": data.eval.within_group,
            "eval_seed": data.eval.seed,
            "val_tasks": data.tasks["val"],
            "test_tasks": data.tasks["test"],
            "train": self.training,
            **self.model.description,
            "precision": str(self.trainer.precision),
            "seed": self.cfg.seed,
            "control": self.cfg.control,
        }

    def _draw(self, scores: TaskScores, metrics: dict[str, float]) -> None:
        curve = figures.adaptation_curve(scores, self.split)
        pictures = self._task_pictures()
        for name, figure in (("adaptation", curve), ("tasks", pictures)):
            with written_whole(self.folder / f"{name}.png") as file:
                figure.savefig(file, format="png", dpi=120)
        for logger in self.trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                writer, step = logger.experiment, self.trainer.global_step
                writer.add_figure(f"{self.split}/adaptation", curve, step)
                writer.add_figure(f"{self.split}/tasks", pictures, step)
                final = {name: value for name, value in metrics.items() if not np.isnan(value)}
                logger.log_hyperparams(_flat(plain(self.cfg)), {f"final/{name}": value for name, value in final.items()})
                writer.flush()

    def _task_pictures(self) -> Figure:
        """The first tasks of the split, with the predictions after adaptation."""
        batches = self.datamodule.meta_batches(self.split, PICTURED_TASKS)
        images = [batches[i] for i in range(len(batches))]
        model = self.model.eval()
        with torch.no_grad():
            scaled = [self.datamodule.scaled(batch).to(model.device) for batch in images]
            predicted = torch.cat([model.evaluate(batch)[:, -1].argmax(dim=-1) for batch in scaled])
        support, query = (
            torch.cat([getattr(batch, name) for batch in images]).movedim(2, -1).numpy() / 255
            for name in ("support_x", "query_x")
        )
        return figures.task_pictures(support, query, predicted.cpu().numpy(), self.datamodule.eval_spec.ways)


def train_cost(trainer: L.Trainer, started: float) -> dict[str, float]:
    """Seconds in outer steps and overall, and tasks a second."""
    throughput = the(trainer, Throughput)
    return {
        "train_seconds": throughput.seconds,
        "train_tasks": throughput.tasks,
        "train_tasks_per_second": throughput.tasks / throughput.seconds if throughput.seconds else 0.0,
        "total_seconds": time.perf_counter() - started,
    }


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys to plain values, for HPARAMS."""
    if not isinstance(node, dict):
        return {prefix: node if isinstance(node, bool | int | float | str) else str(node)}
    return {key: value for name, child in node.items() for key, value in _flat(child, f"{prefix}.{name}".lstrip(".")).items()}
