"""What a run is and what came of it, in words: config, protocol, hyper-parameters with the final figures."""

import json
import math
from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from omegaconf import DictConfig, OmegaConf
from torch.utils.tensorboard.summary import hparams

from fewshot.runtime.build import plain
from fewshot.runtime.seeing.board import boards, show_scalars, show_text

COMPARED = ("seed", "control", "data", "model", "trainer.max_steps", "trainer.precision")
"""Groups and keys of the config in which runs of a sweep may differ: the columns of HPARAMS."""
LEFT_OUT = (
    "data._target_", "data.eval._target_", "data.image_shape", "data.mean", "data.std", "data.cache_dir",
    "data.source.data_dir", "data.num_workers", "data.device_resident", "data.seed", "model.seed", "model.inner._target_",
)  # fmt: skip
"""Those among them that say nothing about what is learned, or say it again."""
FINAL = ("test/acc", "test/acc_ci95", "test/loss", "val/acc", "val/acc_ci95")
"""Final figures in HPARAMS, which shows five columns unless asked for more."""


def show_config(trainer: L.Trainer, cfg: DictConfig, step: int) -> None:
    """The resolved config: as text and as a line of HPARAMS on TensorBoard, as parameters elsewhere.

    The line says what this run has. PyTorch and Lightning add a definition of all columns, of which TensorBoard believes the
    first it finds; without one it gathers them from all runs, and puts those first in which runs differ.

    Args:
        step: that the run starts with or goes on from.
    """
    show_text(trainer, "config", f"```yaml\n{OmegaConf.to_yaml(cfg, resolve=True)}```", step)
    for logger in boards(trainer):
        if isinstance(logger, TensorBoardLogger):
            _, session_start, _ = hparams(hyper_parameters(plain(cfg)), {})  # type: ignore[no-untyped-call]
            logger.experiment._get_file_writer().add_summary(session_start, step)
            logger.save()  # so that it is seen while the run goes on
        else:
            logger.log_hyperparams(_dotted(plain(cfg)))


def show_results(trainer: L.Trainer, metrics: Mapping[str, float], protocol: Mapping[str, Any]) -> None:
    """The protocol as text, and the final figures, which HPARAMS shows first: their names come first in the alphabet.

    Nothing is logged after it.
    """
    step = trainer.global_step
    rows = [f"| {key} | {value if isinstance(value, str) else json.dumps(value)} |" for key, value in protocol.items()]
    show_text(trainer, "protocol", "\n".join(["| | |", "|---|---|", *rows]), step)
    final = {f"final/{name}": metrics[name] for name in FINAL if not math.isnan(metrics.get(name, math.nan))}
    show_scalars(trainer, final, step)
    for logger in boards(trainer):
        if isinstance(logger, TensorBoardLogger):
            *_, session_end = hparams({}, {})  # type: ignore[no-untyped-call]
            logger.experiment._get_file_writer().add_summary(session_end, step)
            logger.save()
        elif isinstance(logger, WandbLogger):
            logger.experiment.finish()  # else the next run of this process would go on with it


def hyper_parameters(config: dict[str, Any]) -> dict[str, Any]:
    """What may differ between the runs of a sweep, by dotted key; an object is its class's name, as in ``model: MAML``."""
    found = {}
    for key, value in _dotted(config).items():
        if key.startswith(tuple(f"{group}." for group in COMPARED)) or key in COMPARED:
            name, _, last = key.rpartition(".")
            if key in LEFT_OUT or last == "_partial_":
                continue
            if last == "_target_":
                found[name] = str(value).rpartition(".")[2]
            else:
                found[key] = value if type(value) in (int, float, str) else json.dumps(value)  # HPARAMS knows no other types
    return found


def _dotted(node: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys to plain values."""
    if not isinstance(node, dict):
        return {prefix: node}
    return {key: value for name, child in node.items() for key, value in _dotted(child, f"{prefix}.{name}".lstrip(".")).items()}
