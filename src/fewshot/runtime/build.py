"""From a composed config to the objects of a run.

The config stays as it was composed, by which a run is known again: Hydra's ``instantiate`` writes values in place of references
within whatever the instantiated part refers to, so it is given parts of a copy.
"""

from copy import deepcopy
from importlib.util import find_spec
from typing import Any

import lightning as L
from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from fewshot.data.datamodule import EpisodicDataModule
from fewshot.errors import UserError, whole
from fewshot.models.base import MetaLearner
from fewshot.runtime.checkpoints import AtomicCheckpointIO

EXTRAS = {"WandbLogger": "wandb", "MLFlowLogger": "mlflow"}
"""Loggers whose package is an extra of its name."""


def plain(cfg: DictConfig, resolve: bool = True) -> dict[str, Any]:
    """The config as plain containers, its references resolved or as they stand."""
    container: dict[str, Any] = OmegaConf.to_container(cfg, resolve=resolve)  # type: ignore[assignment]
    return container


def check_numbers(cfg: DictConfig) -> None:
    """Refuses numbers that are none, before anything is computed with them."""
    for key in ("max_steps", "val_check_interval", "log_every_n_steps"):
        whole(f"trainer.{key}", cfg.trainer[key], least=1)
    for key in ("meta_batch_size", "val_tasks", "test_tasks"):
        whole(f"data.{key}", cfg.data[key], least=1)
    if cfg.threads is not None:
        whole("threads", cfg.threads, least=1)


def _build_logger(node: DictConfig, first_step: int) -> Logger:
    """A logger that goes on at a step, where it is one that has to be told.

    Raises:
        UserError: its package is not installed.
    """
    name = node._target_.rpartition(".")[2]
    extra = EXTRAS.get(name)
    if extra is not None and find_spec(extra) is None:
        raise UserError(f"logger={extra} needs a package that is not installed; make extras, or pip install {extra}")
    key = {"TensorBoard": "purge_step", "MetricsCsv": "first_step"}.get(name)
    logger: Logger = instantiate(node, **({key: first_step} if key and first_step else {}))
    return logger


def build_data(cfg: DictConfig) -> EpisodicDataModule:
    """The data module; no data are touched."""
    shuffled = cfg.control == "shuffled_labels"
    datamodule: EpisodicDataModule = instantiate(deepcopy(cfg).data, _convert_="all", shuffled_labels=shuffled)
    return datamodule


def build_model(cfg: DictConfig) -> MetaLearner:
    """The model, its weights drawn from the seed."""
    model: MetaLearner = instantiate(deepcopy(cfg).model, _convert_="all")
    return model


def build_trainer(cfg: DictConfig, first_step: int = 0) -> L.Trainer:
    """The trainer with its callbacks and loggers.

    Args:
        first_step: outer step that the logs go on from; what an earlier process logged of later ones is dropped.
    """
    cfg = deepcopy(cfg)
    callbacks = [instantiate(node) for node in cfg.callbacks.values()]
    loggers = [_build_logger(node, first_step) for node in cfg.logger.values()]
    trainer: L.Trainer = instantiate(
        cfg.trainer,
        callbacks=callbacks,
        logger=loggers,
        plugins=[AtomicCheckpointIO()],
        log_every_n_steps=min(cfg.trainer.log_every_n_steps, cfg.trainer.max_steps),
    )
    return trainer
