"""What names a job and a sweep: hashes that are the same in every process and on every machine."""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from fewshot.runtime.config_files import UNCOMPUTED

SHOWN = (
    "logger",
    "callbacks.progress",
    "callbacks.prune",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "data.num_workers",
    "data.cache_dir",
    "data.source.data_dir",
)
"""Keys that say where a run reads and shows itself, not what it computes."""
NEUTRAL = (*UNCOMPUTED, *SHOWN)
"""Keys of a run that do not make another job."""
PLACES = ("launcher", "paths", "resume", *SHOWN)
"""What the command of a sweep may change without meaning another sweep; a name is part of its folder's."""
DIGITS = 12
NAME_LENGTH = 60
"""Characters, at the most, of what a name adds to that of a folder."""


def job_id(cfg: DictConfig, without: Sequence[str] = ()) -> str:
    """The name of a job's folder: a hash of the values that its config has, seed included, `NEUTRAL` keys left out.

    Args:
        cfg: the job's config, without Hydra's own node.
        without: top-level keys whose values do not count either, nor where others refer to them.
    """
    neutral = cast(DictConfig, OmegaConf.create(OmegaConf.to_container(cfg)))
    if "paths" in neutral:
        neutral.paths = {key: f"<{key}>" for key in neutral.paths}  # whatever refers to a folder is the same everywhere
    for key in without:
        neutral[key] = f"<{key}>"
    values: Any = OmegaConf.to_container(neutral, resolve=True)
    for key in NEUTRAL:
        drop(values, key)
    return _digest(values)


def name_suffix(name: str | None) -> str:
    """What a run's name adds to that of its folder."""
    words = re.sub(r"[^\w-]+", "_", name or "")[:NAME_LENGTH].strip("_-")
    return words and f"_{words}"


def sweep_name(overrides: Sequence[str]) -> str:
    """The name of a sweep's folder: what its command fixes, and which keys it varies, but not over which values.

    The same command finds its folder again, and so does one with more values of the same keys.

    Args:
        overrides: of the command line, Hydra's own left out.
    """
    fixed, varied, choices = [], [], []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.get_key_element()
        if any(key.lstrip("+~") == place or key.lstrip("+~").startswith(f"{place}.") for place in PLACES):
            continue
        if override.is_sweep_override():
            varied.append(key)
        else:
            value = override.get_value_element_as_str()
            fixed.append(f"{key}={value}")
            if "." not in key:  # experiment=omniglot_5w1s needs no key to be understood, seed=0 does
                choices.append(value if isinstance(override.value(), str) else f"{key}_{value}")
    words = [*sorted(choices), *(re.split(r"[./]", key)[-1] for key in sorted(varied))]
    readable = re.sub(r"[^\w-]+", "_", "-".join(words))[:NAME_LENGTH].strip("_-")
    return f"{readable or 'sweep'}-{_digest([sorted(fixed), sorted(varied)])[:8]}"


def drop(values: Any, key: str) -> None:
    """Takes a dotted key out of plain values, where it is there."""
    *path, last = key.split(".")
    for name in path:
        values = values.get(name) if isinstance(values, dict) else None
    if isinstance(values, dict):
        values.pop(last, None)


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
