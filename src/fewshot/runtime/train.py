"""The main job: train a model on tasks, keep the best of its checkpoints, test it on unseen classes."""

import logging
import time
from dataclasses import asdict
from pathlib import Path

from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig

from fewshot.runtime.build import build_data, build_model, build_trainer, save_config
from fewshot.runtime.callbacks import callbacks_of
from fewshot.runtime.checkpoints import read_checkpoint
from fewshot.runtime.process import set_up_process
from fewshot.runtime.report import Report, train_cost

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> dict[str, float]:
    """Runs a composed config to its end.

    Everything that can be found wrong without decoding an image or taking a step is found first.

    Returns:
        the metrics of ``results.json``.

    Raises:
        UserError: config, data or files are not as they must be.
    """
    started = time.perf_counter()
    set_up_process(cfg)
    folder = Path(cfg.paths.output_dir)
    splits = ["train", "val", "test"] if cfg.test else ["train", "val"]

    datamodule = build_data(cfg)
    model = build_model(cfg)
    trainer = build_trainer(cfg)
    save_config(cfg, folder)
    datamodule.check(splits)
    datamodule.prepare(splits)

    spec, description = datamodule.train_spec, model.description
    log.info(
        f"{description['model']} · {description['backbone']} ({description['parameters']:,} parameters) · "
        f"{datamodule.source.name} · {spec.ways}-way {spec.shots}-shot · "
        f"{trainer.max_steps:,} outer steps of {datamodule.meta_batch_size} tasks · seed {cfg.seed}"
    )
    log.info(f"Results: {folder}")

    if cfg.val_at_start:
        trainer.validate(model, datamodule, verbose=False)
        log.info(f"Before training: val/acc {model.scores['val'].final_accuracy.mean:.4f}")
    trainer.fit(model, datamodule)
    cost = train_cost(trainer, started)

    (best,) = (callback for callback in callbacks_of(trainer, ModelCheckpoint) if callback.monitor)
    kept = read_checkpoint(Path(best.best_model_path))["fewshot"]["val_metrics"]
    if cfg.test:
        trainer.test(model, datamodule, ckpt_path=best.best_model_path, verbose=False)
    return Report(
        cfg,
        folder,
        datamodule,
        model,
        trainer,
        split="test" if cfg.test else "val",
        training={**asdict(spec), "meta_batch_size": datamodule.meta_batch_size, "steps": trainer.global_step},
        val_metrics=kept,
        cost=cost,
    ).write()
