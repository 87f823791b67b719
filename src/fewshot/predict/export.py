"""The command ``export.py``: a run and a folder of examples become one file, which is compared with the model first."""

import logging
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor

from fewshot.errors import UserError, check_int, suggest
from fewshot.evaluation.results import read_results
from fewshot.predict.examples import learn, read_support, refuse_overwriting
from fewshot.predict.export_formats import FORMATS
from fewshot.predict.learner import FewShotLearner

log = logging.getLogger(__name__)

LARGEST_DIFFERENCE = 1e-4
"""Of exported from eager outputs, as a share of the largest output where that is more than 1: rounding grows with it."""


def export(cfg: DictConfig) -> None:
    """Writes the file that a config describes.

    Raises:
        UserError: the run, the examples or the format are not as they must be, or the file computes something else.
    """
    if cfg.format not in FORMATS:
        raise UserError(f"format={cfg.format} is unknown{suggest(str(cfg.format), FORMATS)}")
    if cfg.episode and cfg.format == "safetensors":
        raise UserError("episode=true needs a graph, and safetensors holds tensors alone; use format=torch_export or onnx")
    if cfg.shots is not None:
        check_int("shots", cfg.shots, least=1)
    out = Path(cfg.out).expanduser()
    if out.is_dir():
        raise UserError(f"out={out} is a folder; give the name of a file")
    examples, _ = read_support(cfg.support, cfg.shots)
    refuse_overwriting([out], [cfg.support], examples)
    learner = FewShotLearner.from_run(cfg.run, cfg.checkpoint, trust=tuple(cfg.trust))
    if learner.predictor.run.objective != "classification":
        raise UserError(f"run={cfg.run} learned values, and folders have classes; use FewShotLearner.adapt in Python")
    learn(learner, examples)
    predictor, x, y = learner.predictor, learner.support.x, learner.support.y
    if cfg.episode:
        from fewshot.models.episode_graph import EpisodeGraph  # imports Lightning, which takes seconds

        module: torch.nn.Module = EpisodeGraph(predictor.scale, predictor.model)
        # Queries are as many as no other input has: equal numbers, or one tensor given twice, would be taken for one size.
        members, queries = F.one_hot(y).float(), torch.cat([x, x])
        inputs = [(x, ["support"]), (members, ["support", "classes"]), (queries, ["queries"])]
    else:
        module, inputs = learner.adapt(), [(x, ["queries"])]
    begun, about = time.perf_counter(), _about(cfg, learner)
    exported = FORMATS[cfg.format](module.eval(), inputs, about)
    log.info(f"Exported in {time.perf_counter() - begun:.1f} s")
    for name, compute in exported.computes.items():
        found = difference(module, compute, [tensor for tensor, _ in inputs])
        log.info(f"{name}: differs from the model by {found:.1e} at the most, on the {len(x)} examples")
        if not found <= LARGEST_DIFFERENCE:
            raise UserError(
                f"format={cfg.format}: {name} differs from the model by {found:.1e} of its largest output, and "
                f"{LARGEST_DIFFERENCE:.0e} is the most that is accepted; nothing is written. Use another format"
            )
    if cfg.format == "onnx" and "onnxruntime" not in exported.computes:
        log.info("onnxruntime is not installed: the file itself was not run; make extras")
    out.parent.mkdir(parents=True, exist_ok=True)
    exported.write(out)
    log.info(f"{out}: {out.stat().st_size:,} bytes, classes {', '.join(about['classes'])}")


@torch.no_grad()
def difference(module: torch.nn.Module, compute: Any, inputs: list[Tensor]) -> float:
    """The largest of outputs for all queries together and for the first alone, as `LARGEST_DIFFERENCE` says."""
    found = 0.0
    for given in (inputs, [*inputs[:-1], inputs[-1][:1]]):
        expected, computed = module(*given), compute(*given)
        largest = (expected - computed).abs().max() / expected.abs().max().clamp(min=1)
        found = max(found, float(largest.nan_to_num(nan=torch.inf)))
    return found


def _about(cfg: DictConfig, learner: FewShotLearner) -> dict[str, Any]:
    """What whoever uses the file has to know, as plain containers."""
    predictor, y = learner.predictor, learner.support.y
    run, row = predictor.run, predictor.row
    results = run.folder / "results.json"
    return {
        "schema": 1,
        "fewshot": version("fewshot"),
        "classes": [str(name) for name in learner.classes_],
        "examples": y.bincount().tolist(),
        "input": {"shape": list(row.shape), "dtype": row.dtype},
        "outputs": "logits; probabilities are softmax(outputs / temperature)",
        "temperature": predictor.temperature,
        "episode": cfg.episode,
        "model": predictor.model.description,
        "protocol": read_results(results)["protocol"] if results.is_file() else None,
        "run": str(run.folder),
        "checkpoint": cfg.checkpoint,
    }
