"""This project as ``train.py`` runs it: Hydra's config, Lightning's trainer, callbacks, progress bar, TensorBoard and CSV."""

import os
import tempfile
from pathlib import Path
from typing import Any

import lightning as L
from hydra import compose, initialize_config_dir
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig

from benchmarks.settings import Setting
from benchmarks.stopwatch import Stopwatch
from fewshot.runtime.build import build_data, build_model, build_trainer
from fewshot.runtime.process import set_up_process

ROOT = Path(__file__).parents[2]


def config(setting: Setting, folder: str, steps: int, *overrides: str) -> DictConfig:
    """The config of a run that trains and does not validate."""
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
                "data.eval.queries=15",
                f"data.meta_batch_size={setting.tasks}",
                "seed=0",
                "threads=null",
                f"trainer.max_steps={steps}",
                f"trainer.val_check_interval={steps}",
                "+trainer.limit_val_batches=0",
                f"paths.output_dir={folder}",
                f"paths.cache_dir={folder}/cache",
                *overrides,
            ],
        )


class Laps(Callback):
    """Tells a stopwatch when outer steps begin and end."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        self._stopwatch = stopwatch

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stopwatch.start()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._stopwatch.lap()


def run(setting: Setting, steps: int, stopwatch: Stopwatch, *overrides: str) -> None:
    """Trains for some outer steps."""
    with tempfile.TemporaryDirectory() as folder:
        # The forecast measures memory in a way of its own, which would be in the way of the one here.
        cfg = config(setting, folder, steps, "~callbacks.memory", *overrides)
        set_up_process(cfg)
        datamodule, model, trainer = build_data(cfg), build_model(cfg), build_trainer(cfg)
        trainer.callbacks.append(Laps(stopwatch))  # type: ignore[attr-defined]
        datamodule.prepare(["train", "val"])
        trainer.fit(model, datamodule)
