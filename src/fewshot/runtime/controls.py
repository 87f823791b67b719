"""``control=all``: a run, and beside it what it comes to with nothing to learn, and without learning."""

import logging
import secrets
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict

from fewshot.errors import UserError
from fewshot.evaluation.results import read_results
from fewshot.files import write_json
from fewshot.runtime.config_check import LARGEST_SEED
from fewshot.runtime.config_files import RESOLVED, load_config
from fewshot.runtime.distributed import started_from_outside

log = logging.getLogger(__name__)

FOLDER = "controls"
KINDS = ("shuffled_labels", "random_init")


def train_with_controls(cfg: DictConfig, train: Callable[[DictConfig], dict[str, float]]) -> dict[str, float]:
    """Trains and tests both controls in folders of their own, then the run, whose results name them.

    Each is a run that goes on where it was stopped; they come first, so that a run with results has its controls.

    Args:
        cfg: of the run.
        train: trains one.

    Returns:
        the metrics of the run.

    Raises:
        UserError: processes were started from outside, one set for one run.
    """
    if started_from_outside():
        raise UserError("control=all runs one after the other, and torchrun and srun start processes of one; set control=null")
    folder = Path(cfg.paths.output_dir)
    if cfg.seed is None:  # the same for all
        there = [path for path in (folder, *(folder / FOLDER / kind for kind in KINDS)) if (path / RESOLVED).is_file()]
        cfg.seed = load_config(there[0] / RESOLVED)["seed"] if there else secrets.randbelow(LARGEST_SEED + 1)
    cfg.control = None
    for kind in KINDS:
        control = deepcopy(cfg)
        control.control, control.paths.output_dir, control.calibration_tasks = kind, str(folder / FOLDER / kind), 0
        with open_dict(control.callbacks):
            control.callbacks.pop("prune", None)  # which judges the run
        train(control)
    metrics = train(cfg)
    path, found = folder / "results.json", controls_of(folder)
    if path.is_file() and (results := read_results(path)).get("controls") != found:  # of a run that was complete without them
        write_json(path, {**results, "controls": found})
    return metrics


def controls_of(folder: Path) -> dict[str, Any]:
    """The section ``controls`` of a run's results: the metrics of each, and for shuffled labels what chance is."""
    found = {}
    for kind in KINDS:
        path = folder / FOLDER / kind / "results.json"
        if path.is_file():
            results = read_results(path)
            ways = results["protocol"]["ways"]
            chance = 1 / ways if kind == "shuffled_labels" and isinstance(ways, int) else None
            found[kind] = {"folder": f"{FOLDER}/{kind}", "chance": chance, "metrics": results["metrics"]}
    return found
