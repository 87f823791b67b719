"""What is fitted on validation tasks once a run is done: a temperature, and thresholds for unknown classes.

A temperature divides a model's outputs before the softmax (Guo et al. 2017, section 4.2). It fits tasks of the size of the
validation tasks; those of other ways and shots are served by it less well.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor

from fewshot.data.datamodule import EpisodicDataModule
from fewshot.data.meta_batches import DrawnTasks
from fewshot.files import write_json
from fewshot.objectives import CALIBRATION_BINS
from fewshot.predict.predictor import TaskPredictor
from fewshot.predict.run_files import CALIBRATION, packages, read_run
from fewshot.predict.unknown import SCORES, auroc, fpr95, threshold
from fewshot.predict.unknown_tasks import with_unknown

FALSE_ALARMS = (0.01, 0.05, 0.1, 0.2)
"""Shares of queries of known classes that are called unknown; each has a threshold."""
BOUNDS = (-8.0, 8.0)
"""Of the logarithm of the temperature; outputs of a short training may be of the order of 0.01."""
UNKNOWN_WAYS = 5
"""Held-out classes of a validation task, at the most."""


def calibrate(folder: Path, datamodule: EpisodicDataModule, tasks: int, device: str) -> None:
    """Writes ``calibration.json`` into the folder of a run of classification that has a best checkpoint.

    Args:
        folder: of the run, which holds its config.
        datamodule: whose validation part is prepared.
        tasks: validation tasks to fit on, at the most.
        device: that computes.
    """
    datamodule.setup("validate")  # closed where a finished run is only reported
    drawn, run = datamodule.tasks_of("val"), read_run(folder, trust=packages(folder))
    if not isinstance(drawn, DrawnTasks) or run.objective != "classification":
        return
    predictor = TaskPredictor(run, transductive=False, device=device)
    count = min(tasks, datamodule.tasks["val"])
    classes = len(datamodule.prepared["val"].table.classes)
    outputs: list[Tensor] = []
    labels: list[Tensor] = []
    known: dict[str, list[Tensor]] = {name: [] for name in SCORES}
    unknown: dict[str, list[Tensor]] = {name: [] for name in SCORES}
    for index in range(count):
        (rows,) = drawn.rows([index])
        ways = min(UNKNOWN_WAYS, classes - rows.class_id.shape[1]) if rows.class_id is not None else 0
        batch, queries = with_unknown(datamodule, "val", rows, ways)
        found = predictor.outputs(batch)
        outputs.append(found[0, :queries])
        labels.append(batch.query_y[0, :queries])
        if ways:
            for name, values in predictor.known_scores(batch, found).items():
                known[name].append(values[0, :queries])
                unknown[name].append(values[0, queries:])
    temperature = fit_temperature(outputs, labels)
    # The error after calibration is measured on tasks that the temperature was not fitted on.
    half = fit_temperature(outputs[::2], labels[::2])
    content: dict[str, Any] = {
        "schema": 1,
        "tasks": count,
        "temperature": temperature,
        "ece_before": calibration_error(outputs[1::2], labels[1::2], 1.0),
        "ece_after": calibration_error(outputs[1::2], labels[1::2], half),
        "unknown": None,
    }
    if known["energy"]:
        scores = {name: _separation(known[name], unknown[name]) for name in SCORES}
        best = max(SCORES, key=lambda name: scores[name]["auroc"])
        content["unknown"] = {"score": best, "scores": scores}
    write_json(folder / CALIBRATION, content)


def fit_temperature(outputs: list[Tensor], labels: list[Tensor]) -> float:
    """The temperature with the least negative log-likelihood over queries of several tasks, each ``(B, N)`` and ``(B,)``."""

    def loss(logarithm: float) -> float:
        scale = float(torch.tensor(logarithm).exp())
        losses = [F.cross_entropy(o.double() / scale, y) for o, y in zip(outputs, labels, strict=True)]
        return float(torch.stack(losses).nan_to_num(posinf=1e6).mean()) if losses else logarithm**2

    return float(torch.tensor(minimize_scalar(loss, bounds=BOUNDS, method="bounded").x).exp())


def calibration_error(outputs: list[Tensor], labels: list[Tensor], temperature: float) -> float | None:
    """The expected calibration error over queries of several tasks at a temperature; None where there are none."""
    if not outputs:
        return None
    found = [(o.double() / temperature).softmax(dim=-1).max(dim=-1) for o in outputs]
    probability = torch.cat([values for values, _ in found]).nan_to_num()  # what is not finite is no answer
    right = torch.cat([(chosen == y) & ~p.isnan() for (p, chosen), y in zip(found, labels, strict=True)]).double()
    bins = (probability * CALIBRATION_BINS).ceil().clamp(1, CALIBRATION_BINS).long() - 1
    sums = torch.zeros(CALIBRATION_BINS, dtype=torch.float64).index_add_(0, bins, right - probability)
    return float(sums.abs().sum() / len(right))


def _separation(known: list[Tensor], unknown: list[Tensor]) -> dict[str, Any]:
    """AUROC and FPR at 95 % TPR, each a mean over tasks, and a threshold over the known queries of all tasks for each rate."""
    pairs = [(k[None].float(), u[None].float()) for k, u in zip(known, unknown, strict=True)]
    together = torch.cat(known).float()
    return {
        "auroc": float(torch.cat([auroc(k, u) for k, u in pairs]).mean()),
        "fpr95": float(torch.cat([fpr95(k, u) for k, u in pairs]).mean()),
        "thresholds": {str(rate): float(threshold(together, rate)) for rate in FALSE_ALARMS},
    }
