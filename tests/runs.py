"""Folders of runs that were never trained: a config and a checkpoint of first weights, which is all that a predictor reads."""

from pathlib import Path

import torch
from omegaconf import OmegaConf

from fewshot.models.checkpoint_entry import SCHEMA, shapes_of
from fewshot.runtime.build import build_data, build_model

SPOILT = 0.3
"""How far weights are moved from where they start, so that running statistics and learned rates are not what they start as."""


def untrained(cfg, classes=10, spoilt=SPOILT):
    """Writes the run's folder of a config; returns its folder and its model."""
    folder = cfg.paths.output_dir
    torch.manual_seed(0)
    model = build_model(cfg, classes)
    with torch.no_grad():
        for values in model.state_dict().values():
            values.mul_(1 + spoilt * torch.rand_like(values))
    content = {
        "state_dict": model.state_dict(),
        "fewshot": {
            "schema": SCHEMA, "model": type(model).__name__, "shapes": shapes_of(model.network), "skipped_steps": 0,
            "max_steps": 1, "val_metrics": {},
        },
    }  # fmt: skip
    write_run(folder, cfg, content)
    return folder, model.eval()


def write_run(folder, cfg, content):
    """A config and a checkpoint as a run has them."""
    (Path(folder) / "checkpoints").mkdir(parents=True, exist_ok=True)
    torch.save(content, Path(folder) / "checkpoints/best.ckpt")
    (Path(folder) / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))


def tasks_of(cfg, part="test", count=3):
    """The first tasks of a run's part, as an evaluation gathers and scales them."""
    datamodule = build_data(cfg)
    datamodule.check([part])
    datamodule.prepare([part])
    datamodule.setup("test" if part == "test" else "validate")
    batch = datamodule.meta_batches(part, count).meta_batch(0)
    return batch[0], datamodule.scaled(batch)[0]
