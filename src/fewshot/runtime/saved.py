"""The config of a finished run as the config that ``eval.py`` starts from."""

from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from fewshot.errors import UserError

EVAL_CONFIG = "eval"
EXCHANGEABLE = ("data", "trainer", "logger")
"""Groups that an evaluation may choose anew; model and backbone are the checkpoint's."""
TASK_KEYS = ("ways", "shots", "queries", "eval", "meta_batch_size", "val_tasks", "test_tasks", "num_workers")
"""Keys of ``data`` that stay the run's when another data set is chosen."""


def offer_saved_config(arguments: list[str]) -> None:
    """Registers the config of the run that ``run=DIR`` names, so that overrides apply on top of it.

    The config is taken as composed, references unresolved: ``data.shots=5`` moves ``data.eval.shots`` as it did in training.

    Args:
        arguments: of the command line.

    Raises:
        UserError: no run is named, or DIR is none.
    """
    folders = [argument.removeprefix("run=") for argument in arguments if argument.startswith("run=")]
    asks_for_help = any(argument in ("--help", "-h") for argument in arguments)
    if not folders:
        if asks_for_help:
            ConfigStore.instance().store(EVAL_CONFIG, {"defaults": ["_self_", {"hydra": "default"}], "run": "???"})
            return
        raise UserError("run=??? must name the folder of a finished run, as in run=logs/train/runs/RUN")
    folder = Path(folders[-1])
    saved = _composed(folder)
    defaults: list[Any] = []
    for group in EXCHANGEABLE:
        if any(argument.startswith(f"{group}=") for argument in arguments):
            node = saved.pop(group)
            defaults.append({group: "???"})
            if group == "data":
                saved["data"] = {key: node[key] for key in TASK_KEYS if key in node}
    saved["callbacks"] = {name: node for name, node in saved["callbacks"].items() if name == "progress"}
    saved["seed"] = _resolved(folder)["seed"]
    saved["defaults"] = [*defaults, {"hydra": "default"}, "_self_"]
    saved["run"] = "???"
    saved["split"] = "test"
    saved["checkpoint"] = "best"
    ConfigStore.instance().store(EVAL_CONFIG, saved)


def training_tasks(folder: Path) -> dict[str, int]:
    """The size of a run's training tasks and meta-batches."""
    data = _resolved(folder)["data"]
    return {key: data[key] for key in ("ways", "shots", "queries", "meta_batch_size")}


def _composed(folder: Path) -> dict[str, Any]:
    """A run's config with its references, as plain data."""
    return _load(folder, ".hydra/config.yaml")


def _resolved(folder: Path) -> dict[str, Any]:
    """A run's config with the values that it had, as plain data."""
    return _load(folder, "config.yaml")


def _load(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        raise UserError(f"run={folder} is no run's folder: it has no {name}; choose one below logs/train/runs")
    try:
        cfg = OmegaConf.load(path)
    except (OSError, YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({type(error).__name__}); choose another run") from error
    if not isinstance(cfg, DictConfig) or not {"data", "model", "trainer", "seed"} <= set(map(str, cfg)):
        raise UserError(f"{path} is no config of a training run; choose one below logs/train/runs")
    saved: dict[str, Any] = OmegaConf.to_container(cfg)  # type: ignore[assignment]
    return saved
