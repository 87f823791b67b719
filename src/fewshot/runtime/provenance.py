"""From what a result came, and what it cost."""

import hashlib
import json
import os
import platform
import re
import resource
import shlex
import subprocess
import sys
from functools import cache
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import torch
import yaml

from fewshot.inner.threads import cores
from fewshot.runtime.config_files import UNCOMPUTED

COMMAND = "FEWSHOT_COMMAND"
"""Environment variable with the command line that started the processes of a run."""
PACKAGES = ("torch", "torchvision", "lightning", "hydra-core", "omegaconf", "torchmetrics", "learn2learn", "numpy")


def provenance(
    config: dict[str, Any],
    data_sha256: dict[str, str],
    earlier_sources: list[dict[str, Any]],
    initial_weights: dict[str, str] | None,
) -> dict[str, Any]:
    """The section ``provenance`` of ``results.json``.

    Args:
        config: with its references; folders and names do not count, so that runs of one config share their hash.
        data_sha256: of each split's prepared images.
        earlier_sources: versions of the source code that took some of the outer steps.
        initial_weights: checkpoint that training started from (`InitialWeights`).
    """
    return {
        **source_version(),
        "earlier_sources": earlier_sources,
        "initial_weights": initial_weights,
        "command": command(),
        "python": platform.python_version(),
        "packages": {name: version_of(name) for name in PACKAGES},
        "machine": {
            "system": platform.platform(),
            "processor": processor(),
            "threads": cores(),
            "threads_of_operation": torch.get_num_threads(),
            "accelerators": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
        "config_sha256": sha256({key: value for key, value in config.items() if key not in UNCOMPUTED}),
        "data_sha256": data_sha256,
    }


def command() -> list[str]:
    """The command line of this run."""
    return json.loads(os.environ.get(COMMAND, "null")) or [Path(sys.argv[0]).name, *sys.argv[1:]]


def command_to_continue(folder: Path) -> str:
    """What to type to continue a run in its folder, quoted for Hydra and for a shell."""
    words = [word for word in command() if not word.startswith("hydra.run.dir=")]
    place = str(folder)
    if re.fullmatch(r"[\w./:@+-]+", place, re.ASCII) is None:
        place = '"' + place.replace('"', '\\"') + '"'
    return shlex.join(["python", *words, f"hydra.run.dir={place}"])


def memory_cost() -> dict[str, int]:
    """Peak resident memory of this process, and peak memory allocated on its accelerator, bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    cost = {"peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if torch.cuda.is_available():
        cost["peak_device_bytes"] = torch.cuda.max_memory_allocated()
    return cost


def sha256(config: dict[str, Any]) -> str:
    """Of plain values, whatever the order of keys."""
    return hashlib.sha256(yaml.safe_dump(config, sort_keys=True).encode()).hexdigest()


@cache
def source_version() -> dict[str, Any]:
    """The source code that this process began with.

    Returns:
        commit and whether the working tree differs from it, null outside a checkout; sha256 of the package's Python files.
    """
    folder = Path(__file__).parents[1]

    def git(*arguments: str) -> str | None:
        try:
            return subprocess.run(
                ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return None

    commit = git("rev-parse", "HEAD")
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes())
    return {
        "git_commit": commit,
        "git_dirty": bool(git("status", "--porcelain")) if commit else None,
        "source_sha256": digest.hexdigest(),
    }


def processor() -> str:
    """The name of the machine's CPU."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
