"""``model_card.md``: what a run's model is, for whoever finds its folder (Mitchell et al. 2019)."""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fewshot.evaluation.card import chosen_on_validation
from fewshot.evaluation.table import size_text, task_text
from fewshot.files import written_whole

CARD = "model_card.md"
TRANSDUCTIVE = (
    "- It was tested with queries that are answered together (transductive); `predict.py` answers each by itself, which costs "
    "accuracy, unless told `transductive=true`."
)
COMMAND = """```
python predict.py {} support=FOLDER query=FOLDER
```

`FOLDER` of the support set has a folder of examples for each class; of sentences, both are csv files. In Python:
"""


def write_model_card(folder: Path, results: dict[str, Any]) -> None:
    """Writes the card of a run from its results and, where it has one, its ``calibration.json``."""
    calibration = folder / "calibration.json"
    fitted = json.loads(calibration.read_text("utf-8")) if calibration.is_file() else None
    with written_whole(folder / CARD) as file:
        file.write(model_card(results, fitted, folder).encode())


def model_card(results: dict[str, Any], calibration: dict[str, Any] | None, folder: Path) -> str:
    """The card's text.

    Args:
        results: the content of ``results.json``.
        calibration: the content of ``calibration.json``.
        folder: of the run, as commands name it.
    """
    protocol, metrics = results["protocol"], results["metrics"]
    train, chosen = protocol["train"], chosen_on_validation(results)
    classes = protocol.get("splits_classes", {})
    classifies = (protocol.get("objective") or {}).get("name", "classification") == "classification"
    lines = [
        f"# {results.get('name') or ', '.join(protocol[key] for key in ('model', 'backbone', 'data'))}",
        "",
        "## What it is",
        "",
        f"- To a new task it adapts: {_adapted(protocol.get('adapt') or [])}; {protocol.get('parameters', 0):,} parameters.",
        f"- Trained on {protocol.get('sources', {}).get('train', protocol['data'])}"
        + (f" ({classes['train']} classes)" if classes.get("train") else "")
        + (f", tasks: {_size(train)}" if {"ways", "shots"} <= train.keys() else "")
        + f"; {train.get('steps', 0):,} outer steps, seed {protocol.get('seed')}.",
        f"- Batch normalisation: {protocol.get('batch_norm')}. Control: {protocol.get('control') or 'none'}.",
        "",
        "## Figures",
        "",
        f"Tasks: {_size(protocol)}{_seen(protocol)}. Means over tasks with 95 % intervals.",
        "",
        "| figure | value |",
        "|---|---|",
        *_figures(metrics),
    ]
    if calibration is not None:
        lines += [
            "",
            f"Probabilities are calibrated by a temperature of {calibration['temperature']:.3g}, fitted on "
            f"{calibration['tasks']} validation tasks: expected calibration error {_number(calibration['ece_before'])} before, "
            f"{_number(calibration['ece_after'])} after.",
        ]
    lines += [
        "",
        "## Limits",
        "",
        "- The figures are for tasks of this size, from this dataset. Other inputs, more classes or other numbers of "
        f"examples: measure anew{'; `predict.py` says first what may be expected' if classifies else ''}.",
        *([TRANSDUCTIVE] if protocol.get("transductive") and classifies else []),
        *([f"- The run was cut short: {', '.join(results['cut_short'])}."] if results.get("cut_short") else []),
        f"- Chosen on validation tasks: {f'the {chosen}' if chosen else 'nothing'}.",
        "",
        "## How to use it",
        "",
        *([COMMAND.format(shlex.quote(f"run={folder}"))] if classifies else []),
        "```python",
        "from fewshot import FewShotLearner",
        "",
        f"learner = FewShotLearner.from_run({str(folder)!r}).fit(inputs, {'labels' if classifies else 'values'})",
        "learner.predict(others)",
        "```",
        "",
    ]
    return "\n".join(lines)


def _size(size: Mapping[str, Any]) -> str:
    """The size of tasks in words."""
    return f"{task_text(size)}, {size_text(size.get('queries'))} queries" + ("" if size["ways"] == 1 else " a class")


def _adapted(patterns: Sequence[str]) -> str:
    """Which parameters, from the patterns of ``model.inner.adapt``."""
    adapted = ["all parameters" if one == "*" else one for one in patterns if not one.startswith("!")]
    left = [one[1:] for one in patterns if one.startswith("!")]
    return (", ".join(adapted) or "no parameters, it compares") + (f" but {', '.join(left)}" if left else "")


def _seen(protocol: Mapping[str, Any]) -> str:
    """Whether the tested classes are new, as the summary of a run says it; rows without classes have none to tell."""
    if not any((protocol.get("splits_classes") or {}).values()):
        return ""
    seen = protocol.get("seen_classes", {}).get("test", 0)
    return f", on classes of which {seen} were trained on" if seen else ", on classes that were not trained on"


def _figures(metrics: dict[str, float]) -> list[str]:
    rows = []
    for name, value in metrics.items():
        if not name.endswith("_ci95"):
            interval = metrics.get(f"{name}_ci95")
            known = interval is not None and not math.isnan(interval)
            rows.append(f"| {name} | {_number(value)}" + (f" ± {_number(interval)} |" if known else " |"))
    return rows


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"
