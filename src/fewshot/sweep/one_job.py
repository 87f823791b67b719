"""The process of one job: ``python -m fewshot.sweep.one_job SWEEP/JOB``, started by whatever launches jobs."""

import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, cast

from filelock import Timeout
from hydra import version
from hydra.conf import HydraConf
from hydra.core.utils import run_job, setup_globals
from hydra.experimental.callback import Callback
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from fewshot.runtime.cli import do, mistakes_explained, tolerate_any_console
from fewshot.runtime.config_groups import CONFIGS
from fewshot.sweep.job import Job

BUSY = 75
"""Exit code where another process runs the job (EX_TEMPFAIL)."""
GLANCE = 5
"""Seconds that somebody who only looks may hold a job."""


def run(folder: Path) -> int:
    """Runs the job of a folder from its frozen config, where it is neither complete nor run by another process.

    Returns:
        the exit code that the run would have by itself, or `BUSY`.
    """
    job = Job(folder)
    try:
        with job.locked(timeout=GLANCE):
            if job.results() is not None:
                return 0
            job.begin(os.getpid())
            code = _attempt(job)
            sys.stdout.flush()
            sys.stderr.flush()
            job.end(code)
            return code
    except Timeout:
        return BUSY


def frozen(job: Job) -> DictConfig:
    """The config of a job as Hydra would hand it over, for the folder where the job lies today."""
    cfg = job.config()
    known = OmegaConf.structured(HydraConf)
    OmegaConf.set_struct(known, False)  # Hydra adds keys to it as it goes
    hydra = OmegaConf.merge(known, cfg.hydra)
    hydra.sweep.dir, hydra.sweep.subdir = str(job.folder.parent), job.name
    whole = OmegaConf.merge({"hydra": hydra}, OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]))
    OmegaConf.set_struct(whole, True)
    return cast(DictConfig, whole)


def _attempt(job: Job) -> int:
    """Runs it once; whatever goes wrong becomes an exit code and is told to the log."""
    record = job.record()
    os.environ.setdefault("FEWSHOT_ROOT", str(CONFIGS.parent))

    def task(cfg: DictConfig) -> Any:
        from fewshot.runtime.provenance import COMMAND

        os.environ[COMMAND] = json.dumps(record["command"])
        with mistakes_explained("train"):  # before Hydra remarks on them
            return do(record["function"], cfg)

    version.setbase("1.3")
    setup_globals()
    context = HydraContext(cast(Any, None), cast(Any, Callback()))  # nothing is composed any more, and nobody is called back
    try:
        with mistakes_explained("train"):
            done = run_job(task, frozen(job), "hydra.sweep.dir", "hydra.sweep.subdir", context)
            done.return_value  # noqa: B018  raises what the run raised
    except SystemExit as ended:
        return int(ended.code or 0)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def stop_with_parent() -> None:
    """Asks this process to stop when the one that started it dies: then nobody holds the other end of stdin."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    stop_with_parent()
    tolerate_any_console()
    sys.exit(run(Path(sys.argv[1])))
