"""The best config of a sweep as an experiment file, ready to be composed."""

from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from fewshot.evaluation.files import written_whole
from fewshot.sweep.identity import NEUTRAL
from fewshot.sweep.job import FROZEN, Job

CHOSEN = ("data", "model", "trainer", "callbacks")
"""Groups whose choices, and those of groups below them, an experiment file repeats; the values follow them."""


def write_experiment(job: Job, path: Path, says: str) -> None:
    """Writes what a job ran, its seed and folders left out, as an experiment file.

    Args:
        job: of a sweep.
        path: of the file.
        says: its second line.
    """
    cfg = OmegaConf.load(job.folder / FROZEN)
    choices: dict[str, Any] = OmegaConf.to_container(cfg.hydra.runtime.choices)  # type: ignore[assignment]
    groups = [group for group in sorted(choices) if group.split("/")[0] in CHOSEN and isinstance(choices[group], str)]
    defaults = [{f"override /{group}": choices[group]} for group in groups]
    for key in ("hydra", "seed", *NEUTRAL):
        _remove(cfg, key)
    values: dict[str, Any] = OmegaConf.to_container(cfg)  # type: ignore[assignment]
    text = yaml.safe_dump({"defaults": defaults, **values}, sort_keys=False, width=120, allow_unicode=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as file:
        file.write(f"# @package _global_\n# {says}\n\n{text}".encode())


def _remove(cfg: Any, key: str) -> None:
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    if isinstance(node, DictConfig) and name in node:
        del node[name]
