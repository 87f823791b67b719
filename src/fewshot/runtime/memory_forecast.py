"""How much memory an outer step will need, logged before the first."""

import logging
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from fewshot.data.datamodule import EpisodicDataModule
from fewshot.models.base import MetaLearner

log = logging.getLogger(__name__)


class MemoryForecast(Callback):
    """Measures one task, and warns where the tasks of a meta-batch will not fit."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        model, datamodule = pl_module, trainer.datamodule  # type: ignore[attr-defined]
        if trainer.global_rank > 0 or not isinstance(model, MetaLearner) or not isinstance(datamodule, EpisodicDataModule):
            return
        batch = datamodule.meta_batches("train", datamodule.meta_batch_size).meta_batch(0)
        largest = max(batch, key=lambda tasks: tasks.support_x.numel() + tasks.query_x.numel())
        (scaled,) = datamodule.scaled([largest.to(model.device)])
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices), trainer.precision_plugin.train_step_context():
            forecast = model.memory_forecast(scaled)
        log.info(f"Memory: {forecast}")
        free = free_bytes(model.device)
        if free is not None and forecast.bytes > free:
            log.warning(f"That is more than the {free / 2**30:.1f} GiB that are free; {forecast.remedy}")


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free on a device, bytes; None where it is unknown."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if device.type != "cpu" or not meminfo.is_file():
        return None
    lines = dict(line.split(":") for line in meminfo.read_text("ascii").splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024
