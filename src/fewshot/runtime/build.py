"""From a composed config to the objects of a run."""

from pathlib import Path
from typing import Any

import lightning as L
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from fewshot.data.module import EpisodicDataModule
from fewshot.errors import whole
from fewshot.evaluation.files import written_whole
from fewshot.models.base import MetaLearner
from fewshot.runtime.checkpoints import AtomicCheckpointIO


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The config, resolved, as plain containers."""
    container: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    return container


def save_config(cfg: DictConfig, folder: Path) -> None:
    """Writes the resolved config as ``config.yaml``."""
    with written_whole(folder / "config.yaml") as file:
        file.write(OmegaConf.to_yaml(cfg, resolve=True).encode())


def build_data(cfg: DictConfig) -> EpisodicDataModule:
    """The data module; no data are touched."""
    datamodule: EpisodicDataModule = instantiate(cfg.data, _convert_="all")
    return datamodule


def build_model(cfg: DictConfig) -> MetaLearner:
    """The model, its weights drawn from the seed."""
    model: MetaLearner = instantiate(cfg.model, _convert_="all")
    return model


def build_trainer(cfg: DictConfig) -> L.Trainer:
    """The trainer with its callbacks and loggers."""
    for key in ("max_steps", "val_check_interval", "log_every_n_steps"):
        whole(f"trainer.{key}", cfg.trainer[key], least=1)
    callbacks = [instantiate(node) for node in cfg.callbacks.values()]
    loggers = [instantiate(node) for node in cfg.logger.values()]
    trainer: L.Trainer = instantiate(
        cfg.trainer,
        callbacks=callbacks,
        logger=loggers,
        plugins=[AtomicCheckpointIO()],
        log_every_n_steps=min(cfg.trainer.log_every_n_steps, cfg.trainer.max_steps),
    )
    return trainer
