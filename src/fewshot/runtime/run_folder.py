"""A run's folder: one run at a time, and what an earlier process of the same run left there."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from fewshot.errors import UserError
from fewshot.evaluation.model_card import CARD
from fewshot.evaluation.results import read_results
from fewshot.files import written_whole
from fewshot.predict.run_files import CALIBRATION
from fewshot.runtime.checkpoints import LAST, PREVIOUS, read_checkpoint
from fewshot.runtime.config_files import COMPOSED, RESOLVED, UNCOMPUTED, load_config
from fewshot.runtime.old_runs import renewed
from fewshot.runtime.plots.loggers import FINAL_FOLDER

log = logging.getLogger(__name__)

CHANGEABLE = ("test", "trainer", "logger", "callbacks", "val_at_start")
"""What may differ, with ``resume=true``, from the run that is continued: where and how long it runs, not what it computes."""
ESSENTIAL = ("trainer.precision", "trainer.val_check_interval", "callbacks.best.monitor", "callbacks.best.mode")
"""What may not, though it is of these groups."""
CONCLUDING = ("calibration_tasks", "data.eval.unknown_ways")
"""Keys of what is done once training has ended: changed, it is done again."""
CHANGEABLE_KEYS = (*CONCLUDING, "data.source.data_dir", "model.on_nonfinite")
CHANGEABLE_DATA = ("num_workers", "test_tasks", "cache_dir")


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Keeps other runs out of the folder; the operating system frees it when this process dies.

    Raises:
        UserError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file_lock = FileLock(folder / ".lock")
    try:
        file_lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"hydra.run.dir={folder} is in use by a run that is going on; wait for it or choose another") from error
    try:
        yield
    finally:
        file_lock.release()


def find_checkpoint(cfg: DictConfig, folder: Path) -> dict[str, Any] | None:
    """The checkpoint of an earlier process of this run, or None where there is nothing to continue. Takes over its seed.

    Raises:
        UserError: the folder holds a run of another config.
    """
    if not (folder / COMPOSED).is_file():
        return None
    _require_same(cfg, folder)
    if cfg.seed is None:
        cfg.seed = load_config(folder / RESOLVED)["seed"]
    checkpoint = _last_checkpoint(folder / "checkpoints")
    if checkpoint is None:
        return None
    if checkpoint["global_step"] > cfg.trainer.max_steps:
        raise UserError(
            f"trainer.max_steps={cfg.trainer.max_steps} but the run in {folder} has done {checkpoint['global_step']} outer "
            "steps; choose as many or more, or another hydra.run.dir"
        )
    return checkpoint


def results_of(cfg: DictConfig, folder: Path) -> dict[str, Any] | None:
    """The results of this run where it is complete.

    A run of the same config has done all that it would do again, even where something cut it short (``trainer.max_time``, early
    stopping). One of a changed config must have taken as many outer steps as asked for, be tested if asked for, and have been
    concluded by the same keys.
    """
    path = folder / "results.json"
    if not (folder / COMPOSED).is_file():
        return None
    changed = _require_same(cfg, folder)
    try:
        results = read_results(path)
    except FileNotFoundError:
        return None
    except UserError as error:
        log.warning(f"{error}; it is written anew")
        return None
    steps = 0 if cfg.control == "random_init" else cfg.trainer.max_steps
    tested = not cfg.test or (results["test"] or {}).get("tasks") == cfg.data.test_tasks
    done = tested and results["protocol"]["train"].get("steps") == steps and not changed & {*CONCLUDING}
    return results if not changed or done else None


def write_config(cfg: DictConfig, folder: Path, fresh: bool) -> None:
    """Writes the config, composed, resolved, and as Hydra does; a fresh start clears away what an earlier process left.

    Hydra would write ``.hydra/`` before anybody knows whether the folder holds another run.
    """
    if fresh:
        for name in ("checkpoints", FINAL_FOLDER, "projector"):
            shutil.rmtree(folder / name, ignore_errors=True)
        for path in (folder / "metrics.csv", folder / "projector_config.pbtxt", *folder.glob("events.out.tfevents.*")):
            path.unlink(missing_ok=True)
    for name in ("results.json", CALIBRATION, CARD):  # of a shorter run that is extended now
        (folder / name).unlink(missing_ok=True)
    files = {RESOLVED: OmegaConf.to_yaml(cfg, resolve=True), COMPOSED: OmegaConf.to_yaml(cfg)}
    if HydraConfig.initialized():
        hydra = HydraConfig.get()
        (folder / ".hydra").mkdir(exist_ok=True)
        files[".hydra/config.yaml"] = files[COMPOSED]
        files[".hydra/hydra.yaml"] = OmegaConf.to_yaml({"hydra": hydra})
        files[".hydra/overrides.yaml"] = OmegaConf.to_yaml(hydra.overrides.task)
    for name, text in files.items():
        with written_whole(folder / name) as file:
            file.write(text.encode())


def _require_same(cfg: DictConfig, folder: Path) -> set[str]:
    """Refuses to continue a run of another config: the same command continues, with ``resume=true`` one changed a little.

    Returns:
        the dotted keys that have changed.
    """
    here: dict[str, Any] = OmegaConf.to_container(cfg)  # type: ignore[assignment]
    different = _differences(renewed(load_config(folder / COMPOSED)), here)
    different = {key for key in different if key.partition(".")[0] not in UNCOMPUTED}
    different -= {"seed"} if cfg.seed is None else set()
    essential = {key for key in different if not _changeable(key)}
    if essential or (different and not cfg.resume):
        key = min(essential or different)
        remedy = "give the same config" if essential else "set resume=true to continue it all the same"
        raise UserError(f"hydra.run.dir={folder} holds a run with another {key}; {remedy}, or choose another folder")
    return different


def _changeable(key: str) -> bool:
    if key in ESSENTIAL:
        return False
    group, _, name = key.partition(".")
    return group in CHANGEABLE or (group == "data" and name in CHANGEABLE_DATA) or key in CHANGEABLE_KEYS


def _differences(a: Any, b: Any, prefix: str = "") -> set[str]:
    """Dotted keys whose values differ."""
    if not isinstance(a, dict) or not isinstance(b, dict):
        return set() if a == b else {prefix}
    keys = a.keys() | b.keys()
    return {found for key in keys for found in _differences(a.get(key), b.get(key), f"{prefix}.{key}".lstrip("."))}


def _last_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read: the last, or, with a warning, the one before it."""
    broken = None
    for name in (LAST, PREVIOUS):
        if (folder / name).is_file():
            try:
                checkpoint = read_checkpoint(folder / name)
            except UserError as error:
                broken = error
                log.warning(f"{error}; the checkpoint before it is tried")
            else:
                if broken is not None:
                    log.warning(f"Continuing from {folder / name}, outer step {checkpoint['global_step']}")
                return checkpoint
    if broken is not None:
        log.warning(f"No checkpoint in {folder} can be read: the run starts again")
    return None
