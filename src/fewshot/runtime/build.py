"""From a composed config to the objects of a run.

The config stays as it was composed, by which a run is known again: Hydra's ``instantiate`` writes values in place of references
within whatever the instantiated part refers to, so it is given parts of a copy.
"""

import inspect
from copy import deepcopy
from typing import Any

import lightning as L
from hydra.utils import get_class, instantiate
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.callbacks import ProgressBar as LightningProgressBar
from omegaconf import DictConfig, OmegaConf, open_dict
from torch.optim.lr_scheduler import ReduceLROnPlateau

from fewshot.backbones.backbone import Backbone
from fewshot.data.datamodule import EpisodicDataModule
from fewshot.data.source import SPLITS
from fewshot.errors import UserError, suggest
from fewshot.models.base import MetaLearner
from fewshot.models.classifier import Classifier
from fewshot.predict.targets import leave_files
from fewshot.runtime.build_logger import build_logger
from fewshot.runtime.checkpoints import AtomicCheckpointIO
from fewshot.runtime.config_check import SHARED
from fewshot.runtime.config_groups import CONFIGS, ConfigFile, choices


def plain(cfg: DictConfig, resolve: bool = True) -> dict[str, Any]:
    """The config as plain containers, its references resolved or as they stand."""
    container: dict[str, Any] = OmegaConf.to_container(cfg, resolve=resolve)  # type: ignore[assignment]
    return container


def build_data(cfg: DictConfig) -> EpisodicDataModule:
    """The data module; no data are touched."""
    shuffled = cfg.control == "shuffled_labels"
    node: dict[str, Any] = plain(cfg)["data"]
    source = node.get("source")  # computed tasks have none
    for part in SPLITS:
        if "source" in node[part] and node[part]["source"] is None:
            node[part]["source"] = source
    node = {key: value for key, value in node.items() if key not in SHARED}
    datamodule: EpisodicDataModule = instantiate(
        node, _convert_="all", shuffled_labels=shuffled, allow_seen_classes=cfg.allow_seen_classes
    )
    return datamodule


def require_objective(datamodule: EpisodicDataModule, model: MetaLearner) -> None:
    """Refuses data whose targets are not what the objective asks for: classes, or values.

    Raises:
        UserError: that is so.
    """
    asked = model.objective.name
    for name, part in datamodule.parts.items():
        found = "classification" if part.has_labels else "regression"
        if found != asked:
            raise UserError(f"objective={asked} but data.{name} is of {part.name}; set objective={found}, or other data")


def pretrained_on(model: MetaLearner) -> str | None:
    """What the weights of a part of a model have learned from before, if any."""
    return next(
        (module.pretrained_on for module in model.modules() if isinstance(module, Backbone) and module.pretrained_on), None
    )


def for_checkpoint(cfg: DictConfig) -> DictConfig:
    """A copy of a config whose model reads no weights from files, for a checkpoint that has them."""
    cfg = deepcopy(cfg)
    with open_dict(cfg):
        leave_files(cfg.model)
    return cfg


def build_model(cfg: DictConfig, classes: int | None = None) -> MetaLearner:
    """The model, its weights drawn from the seed.

    Args:
        classes: of the training split, which a `Classifier` learns to tell apart; None leaves out its head.

    Raises:
        UserError: it does not learn what tasks ask for.
    """
    kinds = {group: _class_of(group, cfg[group]._target_) for group in ("objective", "model")}
    objective, inputs, kind = str(getattr(kinds["objective"], "name", "")), _inputs_of(cfg), kinds["model"]
    unfit = None
    if objective not in getattr(kind, "objectives", (objective,)):
        unfit = f"objective={objective} but {kind.__name__} does not learn it"
    elif inputs not in getattr(kind, "inputs", (inputs,)):
        unfit = f"{kind.__name__} does not take {inputs}, which the data are"
    if unfit is not None:
        models = {name: _model_class(name) for name in choices("model")}
        fitting = ", ".join(name for name, one in models.items() if objective in one.objectives and inputs in one.inputs)
        raise UserError(f"{unfit}; choose a model among: {fitting}")
    more = {"classes": classes} if issubclass(kind, Classifier) else {}
    model: MetaLearner = instantiate(deepcopy(cfg).model, _convert_="all", **more)
    return model


def _inputs_of(cfg: DictConfig) -> str:
    """What the data's inputs are, by a name of `MetaLearner.inputs`."""
    if "buckets" in cfg.data:
        return "text"
    if "tokens" in cfg.data:
        return "ratings"
    return "images" if len(cfg.data.image_shape) == 3 else "vectors"


def _class_of(group: str, target: str) -> type:
    try:
        return get_class(target)
    except Exception as error:  # whatever the module raises when it is imported
        raise UserError(f"{group}._target_={target} cannot be imported ({type(error).__name__}); choose another") from error


def _model_class(name: str) -> type[MetaLearner]:
    """The class of a choice of the group ``model``."""
    parts = ConfigFile(CONFIGS / "model" / f"{name}.yaml", "model").parts
    (*_, target) = (part.content["_target_"] for part in parts if "_target_" in part.content)
    return get_class(target)


def check_optimizer(model: MetaLearner, max_steps: int) -> None:
    """Refuses an outer optimizer or schedule that would fail later, by building both.

    Raises:
        UserError: they cannot be built, or need what an outer step has not.
    """
    try:
        made = model.configure_optimizers()
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"model.optimizer or model.scheduler: {error}; see --help") from error
    optimizer = made["optimizer"] if isinstance(made, dict) else made
    scheduler = made["lr_scheduler"]["scheduler"] if isinstance(made, dict) else None
    if inspect.signature(optimizer.step).parameters["closure"].default is inspect.Parameter.empty:
        raise UserError(
            f"model.optimizer={type(optimizer).__name__} asks for several gradients in a step, and an outer step has one; "
            "choose another, such as torch.optim.Adam"
        )
    if isinstance(scheduler, ReduceLROnPlateau):
        raise UserError("model.scheduler=ReduceLROnPlateau waits for validations, and a schedule here goes by outer steps; "
                        "choose another, such as torch.optim.lr_scheduler.CosineAnnealingLR")  # fmt: skip
    steps = getattr(scheduler, "total_steps", max_steps)
    if steps < max_steps:
        raise UserError(
            f"model.scheduler.total_steps={steps} ends before trainer.max_steps={max_steps}; set it to ${{trainer.max_steps}}"
        )


def _check_monitors(callbacks: list[Callback], decides: str) -> None:
    known = [
        f"val/{decides}",
        *(f"val/{decides}_{part}" for part in ("ci95", "before")),
        "val/loss",
        "train/loss",
        f"train/{decides}",
    ]
    for callback in callbacks:
        monitor = getattr(callback, "monitor", known[0])
        if monitor not in known:
            raise UserError(f"callbacks: {type(callback).__name__} has monitor={monitor}{suggest(str(monitor), known)}")


def build_trainer(cfg: DictConfig, first_step: int = 0) -> L.Trainer:
    """The trainer with its callbacks and loggers.

    Args:
        first_step: outer step that the logs go on from; what an earlier process logged of later ones is dropped.
    """
    cfg = deepcopy(cfg)
    callbacks = [instantiate(node) for node in cfg.callbacks.values()]
    _check_monitors(callbacks, cfg.objective.monitor)
    if not cfg.trainer.get("enable_progress_bar", True):
        callbacks = [callback for callback in callbacks if not isinstance(callback, LightningProgressBar)]
    loggers = [build_logger(node, first_step) for node in cfg.logger.values()]
    trainer: L.Trainer = instantiate(
        cfg.trainer,
        callbacks=callbacks,
        logger=loggers,
        plugins=[AtomicCheckpointIO()],
        log_every_n_steps=min(cfg.trainer.log_every_n_steps, cfg.trainer.max_steps),
    )
    return trainer
