"""The best config of a sweep as an experiment file, ready to be composed."""

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from fewshot.errors import UserError
from fewshot.files import written_whole
from fewshot.runtime.config_groups import CONFIGS
from fewshot.sweep.identity import NEUTRAL, drop
from fewshot.sweep.job import Job

CHOSEN = ("data", "model", "trainer", "callbacks")
"""Groups whose choices, and those of groups below them, an experiment file repeats where its experiment has others."""


@dataclass(frozen=True)
class Composed:
    """What a command line makes: plain values, as far as they say what is computed, and the choice of each group."""

    values: dict[str, Any]
    choices: dict[str, Any]

    @classmethod
    def of(cls, cfg: DictConfig) -> "Composed":
        """A config with Hydra's own node; seed, folders and what is shown do not count."""
        choices: Any = OmegaConf.to_container(cfg.hydra.runtime.choices)
        values: Any = OmegaConf.to_container(cfg)
        for key in ("hydra", "seed", *NEUTRAL):
            drop(values, key)
        return cls(values, choices)


def write_experiment(job: Job, path: Path, says: str) -> list[str]:
    """Writes what a job ran, its seed and folders left out, as an experiment file: what differs from the job's own experiment.

    Args:
        job: of a sweep, or a single run.
        path: of the file.
        says: its second line.

    Returns:
        the arguments beside ``experiment=NAME`` that compose it: where else configs lie, and keys that were taken away, which a
        file cannot say.

    Raises:
        UserError: the file would not compose to what the job ran.
    """
    cfg = job.config()
    found = [source.path for source in cfg.hydra.runtime.config_sources if source.provider == "command-line"]
    wanted, experiment = Composed.of(cfg), cfg.hydra.runtime.choices.get("experiment")
    plain = _compose(found, [f"experiment={experiment or 'null'}"])
    chosen = {
        group: choice
        for group, choice in sorted(wanted.choices.items())
        if group.split("/")[0] in CHOSEN and isinstance(choice, str) and plain.choices.get(group) != choice
    }
    base = _compose(found, [f"experiment={experiment or 'null'}", *(f"{group}={choice}" for group, choice in chosen.items())])
    changed, removed = _difference(base.values, wanted.values)
    defaults = [*([experiment] if experiment else []), *({f"override /{group}": choice} for group, choice in chosen.items())]
    text = yaml.safe_dump({"defaults": defaults, **changed}, sort_keys=False, width=120, allow_unicode=True)
    content = f"# @package _global_\n# {says}\n\n{text}".encode()
    with TemporaryDirectory() as folder:
        trial = Path(folder) / "experiment/as_written.yaml"
        trial.parent.mkdir()
        trial.write_bytes(content)
        again = _compose([folder, *found], ["experiment=as_written", *removed])
    if again.values != wanted.values:
        key = min(_keys(_difference(again.values, wanted.values)))
        raise UserError(f"{path} is not written: in an experiment file, {key} of {job.folder} would have another value")
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as file:
        file.write(content)
    return [*([f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in found)}]"] if found else []), *removed]


def _compose(folders: list[str], overrides: list[str]) -> Composed:
    """What ``train.py`` makes of overrides, with configs of other folders too."""
    os.environ.setdefault("FEWSHOT_ROOT", str(CONFIGS.parent))
    searchpath = [f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in folders)}]"] if folders else []
    of_this_command = GlobalHydra.instance().hydra  # a study writes its best config before its own command has ended
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return Composed.of(compose("train", [*searchpath, *overrides], return_hydra_config=True))
    finally:
        GlobalHydra.instance().clear()
        if of_this_command is not None:
            GlobalHydra.instance().initialize(of_this_command)


def _difference(base: Any, wanted: Any, prefix: str = "") -> tuple[Any, list[str]]:
    """What has to be merged into a base, and ``~KEY`` for each key that has to go, to make what is wanted."""
    changed, removed = {}, [f"~{prefix}{key}" for key in base if key not in wanted]
    for key, value in wanted.items():
        if key in base and isinstance(value, dict) and isinstance(base[key], dict):
            inner, gone = _difference(base[key], value, f"{prefix}{key}.")
            removed += gone
            if inner:
                changed[key] = inner
        elif key not in base or base[key] != value:
            changed[key] = value
    return changed, removed


def _keys(difference: tuple[Any, list[str]]) -> list[str]:
    """Dotted keys of a difference."""

    def below(node: Any, prefix: str) -> list[str]:
        if not isinstance(node, dict):
            return [prefix]
        return [found for key, child in node.items() for found in below(child, f"{prefix}.{key}".lstrip("."))]

    changed, removed = difference
    return [*below(changed, ""), *(key.lstrip("~") for key in removed)]
