"""What a run is and what came of it, in words: config, protocol, hyper-parameters with the final figures."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from omegaconf import DictConfig, OmegaConf
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from fewshot.runtime.build import plain
from fewshot.runtime.plots.loggers import FINAL, FINAL_FOLDER, boards, show_text

COMPARED = ("seed", "control", "data", "model", "trainer.max_steps", "trainer.precision")
"""Groups and keys of the config in which runs of a sweep may differ: the columns of HPARAMS."""
LEFT_OUT = (
    "data._target_", "data.eval._target_", "data.image_shape", "data.mean", "data.std", "data.cache_dir",
    "data.source.data_dir", "data.num_workers", "data.device_resident", "data.seed", "model.seed", "model.inner._target_",
)  # fmt: skip
"""Those among them that change nothing of what is learned, or follow from others."""
UNIQUE = re.compile(r"[0-9a-f]{12}|\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6}")
"""Names of folders that a sweep or the clock has given."""
FIGURES = ("test/{0}", "test/{0}_ci95", "test/loss", "val/{0}", "val/{0}_ci95")
"""Final figures of the score that decides in HPARAMS, which shows five columns unless asked for more."""


def show_config(trainer: L.Trainer, cfg: DictConfig, step: int) -> None:
    """The resolved config: as text and as a line of HPARAMS on TensorBoard, as parameters elsewhere.

    The line has the values of this run. PyTorch and Lightning add a definition of all columns, of which TensorBoard believes
    the first it finds; without one it gathers them from all runs, and puts those first in which runs differ.

    Args:
        step: that the run starts with or goes on from.
    """
    show_text(trainer, "config", f"```yaml\n{OmegaConf.to_yaml(cfg, resolve=True)}```", step)
    for logger in boards(trainer):
        if isinstance(logger, TensorBoardLogger):
            _, session_start, _ = hparams(hyper_parameters(plain(cfg)), {})  # type: ignore[no-untyped-call]
            with _final(logger) as writer:
                writer._get_file_writer().add_summary(_named(session_start, Path(cfg.paths.output_dir)), step)
        else:
            logger.log_hyperparams(_dotted(plain(cfg)))


def show_results(trainer: L.Trainer, metrics: Mapping[str, float], protocol: Mapping[str, Any]) -> None:
    """The protocol as text, and the final figures, which are HPARAMS' columns beside the hyper-parameters.

    Nothing is logged after it.
    """
    step = trainer.global_step
    rows = [f"| {key} | {value if isinstance(value, str) else json.dumps(value)} |" for key, value in protocol.items()]
    show_text(trainer, "protocol", "\n".join(["| | |", "|---|---|", *rows]), step)
    names = [name.format(protocol["objective"]["monitor"]) for name in FIGURES]
    final = {f"{FINAL}/{name}": metrics[name] for name in names if not math.isnan(metrics.get(name, math.nan))}
    for logger in boards(trainer):
        if isinstance(logger, TensorBoardLogger):
            *_, session_end = hparams({}, {})  # type: ignore[no-untyped-call]
            with _final(logger) as writer:
                for name, value in final.items():
                    writer.add_scalar(name, value, step)
                writer._get_file_writer().add_summary(session_end, step)
            logger.save()
            continue
        logger.log_metrics(final, step)
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()  # else the next run of this process would go on with it


def _final(logger: TensorBoardLogger) -> SummaryWriter:
    return SummaryWriter(str(Path(logger.log_dir) / FINAL_FOLDER))


def _named(session_start: Summary, folder: Path) -> Summary:
    """With the run's name as the trial's, by which ``status`` and the file manager know it; TensorBoard cuts long paths.

    Only where no other run can have the name: TensorBoard takes the mean of trials of one name.
    """
    if UNIQUE.fullmatch(folder.name):
        (value,) = session_start.value
        content = HParamsPluginData.FromString(value.metadata.plugin_data.content)
        content.session_start_info.group_name = folder.name
        value.metadata.plugin_data.content = content.SerializeToString()
    return session_start


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
