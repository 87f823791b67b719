"""The config files in a run's folder, read as plain data."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from fewshot.errors import UserError

RESOLVED = "config.yaml"
"""The values that the run had."""
COMPOSED = "composed.yaml"
"""The same config with its references, so that an override moves what refers to it."""
UNCOMPUTED = ("paths", "resume", "name", "tags")
"""Keys that have no part in what a run computes."""


def load_config(path: Path) -> dict[str, Any]:
    """The config of a training run.

    Raises:
        UserError: it is no such file, or cannot be read.
    """
    try:
        cfg = OmegaConf.load(path)
        saved: Any = OmegaConf.to_container(cfg) if isinstance(cfg, DictConfig) else None
    except (OSError, YAMLError, OmegaConfBaseException, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({type(error).__name__}); choose another run") from error
    if not isinstance(saved, dict) or not _is_of_a_run(saved):
        raise UserError(f"{path} is no config of a training run; choose one below logs/train/runs")
    return saved


def _is_of_a_run(saved: dict[Any, Any]) -> bool:
    """Whether it has what a training run's config has."""
    groups = all(isinstance(saved.get(group), dict) for group in ("data", "model", "trainer", "callbacks", "logger", "paths"))
    return groups and "seed" in saved and {"ways", "shots", "queries", "meta_batch_size"} <= saved["data"].keys()
