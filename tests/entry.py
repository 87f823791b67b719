"""The entry points as a user types them, in this process (quick) or in one of their own (whole)."""

import contextlib
import io
import logging
import os
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

ROOT = Path(__file__).parents[1]
CONFIG_DIR = f"--config-dir={ROOT}/tests/configs"
TINY = (CONFIG_DIR, "experiment=tiny")
QUICK = (CONFIG_DIR, "experiment=quick")
"""The shortest run, where the network does not matter."""


MODE = Hydra.get_mode


def mode(hydra: Hydra, config_name: str, overrides: list[str]) -> object:
    """Whether a config is a sweep's, as choices of `sweep` alone say: to know it, Hydra composes each config twice."""
    return MODE(hydra, config_name, overrides) if any(override.startswith("sweep=") for override in overrides) else None


@dataclass(frozen=True)
class Finished:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str


def main(script: str, *arguments: str) -> Finished:
    """Runs a script of the project's folder in this process, which has imported everything already."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with (
        patch.object(sys, "argv", [script, *arguments]),
        patch.object(Hydra, "get_mode", mode),
        patch.dict(os.environ),  # where a run leaves its command for its ranks
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as error:
            code = int(error.code or 0)
        finally:
            GlobalHydra.instance().clear()
            HydraConfig.instance().cfg = None  # else choices of this command stay those of the process
            for handler in set(root.handlers) - set(handlers):
                handler.close()
            root.handlers[:] = handlers
            root.setLevel(level)
    return Finished(code, out.getvalue(), err.getvalue())


def command(script: str, *arguments: str, cwd: Path = ROOT, **environment: str) -> Finished:
    """Runs a script of the project's folder in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *arguments],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)
