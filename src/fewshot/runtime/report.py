"""What a run leaves behind once it is done: ``results.json``, figures, TensorBoard's final entries, the table."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
from omegaconf import DictConfig

from fewshot.data.datamodule import EpisodicDataModule
from fewshot.evaluation import results
from fewshot.evaluation.confusions import confusion_figure, write_predictions
from fewshot.evaluation.figures import adaptation_curve
from fewshot.evaluation.model_card import write_model_card
from fewshot.evaluation.table import print_summary
from fewshot.evaluation.task_scores import TaskScores
from fewshot.files import written_whole
from fewshot.models.base import MetaLearner
from fewshot.runtime.build import plain
from fewshot.runtime.callbacks import Throughput, get_callback
from fewshot.runtime.console import log_to_file
from fewshot.runtime.controls import controls_of
from fewshot.runtime.plots.hparams import show_results
from fewshot.runtime.plots.loggers import FINAL, show_figure
from fewshot.runtime.plots.task_figures import left_tasks, task_figure
from fewshot.runtime.provenance import memory_cost, provenance


@dataclass
class Report:
    """Gathers what a run found.

    Attributes:
        split: that the figures show: the test split, or the validation split of a run without a test.
        training: size of the training tasks and meta-batches, and number of outer steps taken.
        max_steps: outer steps that were asked for; None in an evaluation.
        val_metrics: of the checkpoint that was kept.
        val_tasks: that these were measured on; None where validation is not spoken of.
        unknown: how well queries of other classes are told from a task's own, where that was asked for.
        earlier_sources: versions of the source code that took some of the outer steps before this one (`SourceHistory`).
        initial_weights: checkpoint that training started from (`InitialWeights`); None where they were drawn.
    """

    cfg: DictConfig
    folder: Path
    datamodule: EpisodicDataModule
    model: MetaLearner
    trainer: L.Trainer
    split: str
    training: dict[str, Any]
    max_steps: int | None = None
    val_metrics: dict[str, float] = field(default_factory=dict)
    val_tasks: int | None = None
    unknown: dict[str, float] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    earlier_sources: list[dict[str, Any]] = field(default_factory=list)
    initial_weights: dict[str, str] | None = None

    def write(self) -> dict[str, float]:
        """Writes and prints everything.

        Returns:
            the metrics of ``results.json``.
        """
        scores = self.model.scores[self.split]
        metrics = dict(self.val_metrics)
        per_task = f"{self.split}_tasks.csv"
        results.write_per_task(self.folder / per_task, scores)
        sections = {"test": None, self.split: results.test_section(scores, per_task)}
        if self.split == "test":
            metrics |= results.metrics_of("test", scores) | self.unknown
            if scores.predictions is not None:
                write_predictions(self.folder / "test_predictions.csv", scores.predictions, self._class_names(), self._items())
        cost = self.cost | memory_cost()
        protocol, cut_short, controls = self.protocol(), self.cut_short(), controls_of(self.folder)
        self._draw(scores)
        show_results(self.trainer, metrics, protocol)
        found = {
            "status": "cut short" if cut_short else "completed",
            "cut_short": cut_short,
            "name": self.cfg.name,
            "tags": list(self.cfg.tags),
            "metrics": metrics,
            **sections,
            **({"controls": controls} if controls else {}),
            "protocol": protocol,
            "cost": cost,
            "provenance": provenance(
                plain(self.cfg, resolve=False), self.datamodule.images_sha256, self.earlier_sources, self.initial_weights
            ),
        }
        if self.max_steps is not None:
            write_model_card(self.folder, found)
        results.write_results(self.folder / "results.json", **found)  # last: it says that the run is complete
        log_to_file(", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
        print_summary(metrics, sections["test"], protocol, cost, str(self.folder), cut_short, controls)
        return metrics

    def cut_short(self) -> list[str]:
        """What was done of less than was asked for, as in "37 of 60,000 outer steps"."""
        done = {"outer steps": self.training["steps"], **{f"{split} tasks": count for split, count in self._tasks().items()}}
        asked = {"outer steps": self.max_steps, **{f"{split} tasks": count for split, count in self.datamodule.tasks.items()}}
        if self.cfg.control == "random_init" and self.split == "test":  # whose weights are tested, and nothing else
            asked["val tasks"] = 0
        return [f"{count:,} of {asked[what]:,} {what}" for what, count in done.items() if count < (asked[what] or 0)]

    def _tasks(self) -> dict[str, int]:
        """How many tasks of each split were measured."""
        found = {} if self.val_tasks is None else {"val": self.val_tasks}
        return {**found, self.split: len(self.model.scores[self.split].index)}

    def protocol(self) -> dict[str, Any]:
        """All that a figure depends on, in plain values."""
        data, part = self.datamodule, self.datamodule.parts[self.split]
        size, unknown = part.description, getattr(part, "unknown", None)
        return {
            "data": part.name,
            "image_shape": list(data.image_shape),
            "split": self.split,
            "splits_sha256": data.splits_sha256,
            "split_rule": data.split.description,
            "split_rules": {name: data.split_of(name).description for name in data.prepared},
            "seen_classes": data.seen_classes,
            "sources": {name: data.parts[name].name for name in data.prepared},
            "splits_classes": {split: len(prepared.table.classes) for split, prepared in data.prepared.items()},
            "splits_rows": {split: len(prepared.table) for split, prepared in data.prepared.items()},
            "splits_units": data.splits_units,
            "ways": size["ways"],
            "shots": size["shots"],
            "queries": size["queries"],
            "within_group": size.get("within") is not None,
            "within": size.get("within"),
            "apart": part.apart,
            "replacement": part.replacement,
            "unknown_source": None if unknown is None else unknown.name,
            "unknown_ways": self.cfg.data.eval.get("unknown_ways", 0) if self.unknown else 0,
            "eval_seed": part.seed,
            **{f"{split}_tasks": self._tasks().get(split, count) for split, count in data.tasks.items()},
            "train": self.training,
            **self.model.description,
            "objective": {key: getattr(self.model.objective, key) for key in ("name", "monitor", "mode")},
            "precision": str(self.trainer.precision),
            "seed": self.cfg.seed,
            "control": self.cfg.control,
        }

    def _class_names(self) -> list[str] | None:
        """Of the split, by number; None where tasks ask for values."""
        if self.model.objective.name != "classification":
            return None
        return list(self.datamodule.prepared[self.split].table.classes) if self.split in self.datamodule.prepared else None

    def _items(self) -> list[str] | None:
        """What each row of the split is called, where the source says so in a column ``file``."""
        if self.split not in self.datamodule.prepared:
            return None
        column = self.datamodule.prepared[self.split].table.columns.get("file")
        return None if column is None else [column.names[value] for value in column.values]

    def _draw(self, scores: TaskScores) -> None:
        drawn = {"adaptation": adaptation_curve(scores, self.split)}
        names = self._class_names()
        if names is not None and scores.predictions is not None:
            confusions = confusion_figure(scores.predictions, names, self.split)
            drawn |= {"confusions": confusions} if confusions is not None else {}
        shown = [int(task) for task in scores.index[: left_tasks(self.datamodule, self.split)]]
        tasks = task_figure(self.trainer, self.model.eval(), self.split, shown)
        drawn |= {"tasks": tasks} if tasks is not None else {}
        for name, figure in drawn.items():
            png = show_figure(self.trainer, f"{FINAL}/{self.split}/{name}", figure, self.trainer.global_step)
            with written_whole(self.folder / f"{name}.png") as file:
                file.write(png)


def train_cost(trainer: L.Trainer, started: float) -> dict[str, float]:
    """Seconds in outer steps and overall, and tasks a second."""
    throughput = get_callback(trainer, Throughput)
    return {
        "train_seconds": throughput.seconds,
        "train_tasks": throughput.tasks,
        "train_tasks_per_second": throughput.tasks / throughput.seconds if throughput.seconds else 0.0,
        "total_seconds": time.perf_counter() - started,
    }
