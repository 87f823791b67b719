"""This project as ``train.py`` runs it: Hydra's config, Lightning's trainer, callbacks, progress bar, TensorBoard and CSV."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
from hydra import compose, initialize_config_dir
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig

from benchmarks.settings import Setting
from benchmarks.stopwatch import Stopwatch
from fewshot.runtime.build import build_data, build_model, build_trainer
from fewshot.runtime.environment import set_up_process

ROOT = Path(__file__).parents[2]


def config(setting: Setting, folder: str, steps: int, *overrides: str) -> DictConfig:
    """The config of a run."""
    os.environ.setdefault("FEWSHOT_ROOT", str(ROOT))
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose(
            "train",
            [
                f"hydra.searchpath=[file://{ROOT}/benchmarks/configs]",
                f"experiment={'miniimagenet_5w1s' if setting.pooled else 'omniglot_5w1s'}",
                "data=noise",
                f"model.backbone.filters={setting.filters}",
                f"model.inner.lr={setting.lr}",
                f"model.inner.steps={setting.steps}",
                f"model.inner.first_order={setting.first_order}",
                f"data.image_shape={list(setting.shape)}",
                f"data.mean={[0.0] * setting.shape[0]}",
                f"data.std={[1.0] * setting.shape[0]}",
                f"data.ways={setting.ways}",
                f"data.shots={setting.shots}",
                f"data.queries={setting.queries}",
                f"data.eval.queries={setting.queries}",
                f"data.meta_batch_size={setting.tasks}",
                "seed=0",
                "threads=null",
                f"trainer.max_steps={steps}",
                f"trainer.val_check_interval={steps}",
                f"paths.output_dir={folder}",
                f"paths.cache_dir={folder}/cache",
                *overrides,
            ],
        )


class Laps(Callback):
    """Tells a stopwatch when outer steps, and a validation, begin and end."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        self._stopwatch = stopwatch

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stopwatch.start()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._stopwatch.lap()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stopwatch.start()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stopwatch.lap()


def train(setting: Setting, steps: int, stopwatch: Stopwatch, *overrides: str) -> None:
    """Some outer steps."""
    # The forecast measures memory in a way of its own, which would be in the way of the one here.
    with built(setting, steps, "~callbacks.memory", "+trainer.limit_val_batches=0", *overrides) as (datamodule, model, trainer):
        trainer.callbacks.append(Laps(stopwatch))
        trainer.fit(model, datamodule)


def draw(setting: Setting, count: int, stopwatch: Stopwatch) -> None:
    """Meta-batches of images as bytes, from the file that the images are mapped from."""
    with built(setting, count) as (datamodule, _, _):
        datamodule.setup("fit")
        batches = datamodule.meta_batches("train", count * setting.tasks)
        stopwatch.start()
        for i in range(count):
            batches[i]
            stopwatch.lap()


def evaluate(setting: Setting, count: int, stopwatch: Stopwatch) -> None:
    """So many validation tasks, with the outputs before adaptation and after each step."""
    with built(setting, 1, f"data.val_tasks={count}", f"model.inner.eval_steps={setting.steps}") as (
        datamodule,
        model,
        trainer,
    ):
        trainer.callbacks.append(Laps(stopwatch))
        trainer.validate(model, datamodule, verbose=False)


@contextmanager
def built(setting: Setting, steps: int, *overrides: str) -> Iterator[tuple[Any, Any, Any]]:
    """Data module, model and trainer, in a folder that goes away."""
    with tempfile.TemporaryDirectory() as folder:
        cfg = config(setting, folder, steps, *overrides)
        set_up_process(cfg)
        datamodule, model, trainer = build_data(cfg), build_model(cfg), build_trainer(cfg)
        datamodule.prepare(["train", "val"])
        datamodule.prepared["train"].arrays[0].x.max()  # in memory before anything is measured, as the others' images are
        yield datamodule, model, trainer
