"""The config of a finished run as the config that ``eval.py`` starts from."""

from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore

from fewshot.errors import UserError
from fewshot.runtime.cli import unquoted
from fewshot.runtime.config_files import COMPOSED, RESOLVED, load_config
from fewshot.runtime.config_groups import CONFIGS, ConfigFile
from fewshot.runtime.old_runs import renewed

SAVED_RUN = "saved_run"
"""Name in ``configs/eval.yaml`` of the config of the run that is evaluated."""
EXCHANGEABLE = ("data", "trainer", "logger")
"""Groups that an evaluation may choose anew; model and backbone are the checkpoint's."""
SOURCES = (("train", "source"), ("val", "source"), ("test", "source"), ("test", "unknown"))
"""Parts of the data, and their keys that a source of their own can be chosen for."""
TASK_KEYS = (
    "ways", "shots", "queries", "train", "eval", "val", "test", "meta_batch_size", "val_tasks", "test_tasks", "num_workers",
)  # fmt: skip
"""Keys of ``data`` that stay the run's when another dataset is chosen."""
OF_DATA_SET = ("source", "unknown", "within", "apart")
"""Keys of these that do not. The columns ``within`` and ``apart`` are a dataset's own; without them its tasks are easier."""


def offer_saved_config(arguments: list[str]) -> None:
    """Registers the config of the run that ``run=DIR`` names, so that overrides apply on top of it.

    The config is taken as composed, references unresolved: ``data.shots=5`` moves ``data.eval.shots`` as it did in training.

    Args:
        arguments: of the command line.

    Raises:
        UserError: no run is named, or DIR is none.
    """
    folders = [unquoted(argument.removeprefix("run=")) for argument in arguments if argument.startswith("run=")]
    asks_for_help = any(argument in ("--help", "-h") for argument in arguments)
    if not folders:
        if asks_for_help:
            ConfigStore.instance().store(SAVED_RUN, {})
            return
        raise UserError("run=??? must name the folder of a finished run, as in run=logs/train/runs/RUN")
    folder = Path(folders[-1])
    saved = _load(folder, COMPOSED)
    defaults: list[Any] = []
    for group in EXCHANGEABLE:
        if any(argument.startswith(f"{group}=") for argument in arguments):
            node = saved.pop(group)
            defaults.append({group: "???"})
            if group == "data":
                saved["data"] = {key: _of_tasks(node[key]) for key in TASK_KEYS if key in node}
    for part, key in SOURCES:
        group = f"data/source@data.{part}.{key}"
        if any(argument.startswith(f"{group}=") for argument in arguments):
            saved.get("data", {}).get(part, {}).pop(key, None)
            defaults.append({group: "???"})
    saved["callbacks"] = {"progress": ConfigFile(CONFIGS / "callbacks/minimal.yaml", "callbacks").content["progress"]}
    saved.get("trainer", {}).update(devices=1)  # one process evaluates, however many trained
    for key in ("strategy", "num_nodes"):
        saved.get("trainer", {}).pop(key, None)
    saved["paths"]["output_dir"] = "${hydra:runtime.output_dir}"  # the processes of a run have frozen theirs
    saved["seed"] = _load(folder, RESOLVED)["seed"]
    saved["calibration_tasks"] = 0  # the run has done so
    saved["defaults"] = [*defaults, "_self_"]
    ConfigStore.instance().store(SAVED_RUN, saved)


def _of_tasks(node: Any) -> Any:
    return {key: value for key, value in node.items() if key not in OF_DATA_SET} if isinstance(node, dict) else node


def training_tasks(folder: Path) -> dict[str, int]:
    """The size of a run's training tasks and meta-batches.

    Raises:
        UserError: the run's config has none.
    """
    data = _load(folder, RESOLVED)["data"]
    size, keys = data.get("train"), ("ways", "shots", "queries")
    if not isinstance(size, dict) or not set(keys) <= size.keys():
        raise UserError(f"{folder / RESOLVED} has no data.train.{{{','.join(keys)}}}; choose another run")
    return {**{key: size[key] for key in keys}, "meta_batch_size": data["meta_batch_size"]}


def _load(folder: Path, name: str) -> dict[str, Any]:
    if not (folder / name).is_file():
        raise UserError(f"run={folder} is no run's folder: it has no {name}; choose one below logs/train/runs")
    return renewed(load_config(folder / name))
