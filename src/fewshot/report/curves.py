"""Training, adaptation, test tasks and calibration: figures with configs side by side."""

from collections.abc import Sequence

import numpy as np

from fewshot.report import plots
from fewshot.report.configs import Config
from fewshot.report.html import figure, grid, paragraph, section
from fewshot.report.readings import calibration, curve
from fewshot.report.svg import inline


def curves(configs: Sequence[Config]) -> str:
    """All of them, as far as the runs have what they show."""
    shown, left_out = configs[: plots.MOST], len(configs) - plots.MOST
    tested = [config for config in shown if config.tested]
    drawn = [
        _over_training(shown, f"val/{configs[0].score}", "validation"),
        _over_training(shown, "train/loss", "training"),
        *([_over_adaptation(tested), _distributions(tested), _reliability(tested)] if tested else []),
    ]
    remark = f"Figures show the first {plots.MOST} configs; {left_out} more are in the tables." if left_out > 0 else ""
    return section("Curves", paragraph(remark), grid([one for one in drawn if one]))


def _over_training(configs: Sequence[Config], column: str, part: str) -> str:
    label, factor = plots.axis_of(column.partition("/")[2])
    lines = []
    for config in configs:
        of_runs = [(steps, values) for steps, values in (curve(run.folder, column) for run in config.runs) if len(steps)]
        lines += [plots.Curve(config.label, of_runs)] if of_runs else []
    if not lines:  # evaluations do not train
        return ""
    drawing = inline(plots.over_training(lines, f"{part} {label}", factor), f"{part} {label} over outer steps")
    return figure(drawing, "Means over runs; faint lines: each run. From metrics.csv.")


def _over_adaptation(configs: Sequence[Config]) -> str:
    name = configs[0].score
    label, factor = plots.axis_of(name)
    lines, widths = [], []
    for config in configs:
        of_runs = [plots.test_steps(run.results, name) for run in config.tested]
        shared = min(len(means) for means, _ in of_runs)
        lines.append(plots.Curve(config.label, [(np.arange(shared), means[:shared]) for means, _ in of_runs]))
        widths.append(np.mean([width[:shared] for _, width in of_runs], axis=0))
    if all(len(curve.mean[0]) == 1 for curve in lines):  # models that take no steps
        return ""
    drawing = inline(plots.over_adaptation(lines, widths, f"test {label}", factor), f"test {label} over adaptation steps")
    return figure(
        drawing,
        "Test tasks before adaptation and after each step: means over runs; bars: 95 % interval of a run over its tasks.",
    )


def _distributions(configs: Sequence[Config]) -> str:
    label, factor = plots.axis_of(configs[0].score)
    scores = {config.label: np.concatenate([run.figures for run in config.evaluated]) for config in configs}
    finite = {name: kept for name, figures in scores.items() if len(kept := figures[np.isfinite(figures)])}
    if not finite:
        return ""
    drawing = inline(plots.distributions(list(finite), list(finite.values()), label, factor), f"{label} of test tasks")
    return figure(drawing, "Each test task of each run; dots: quartiles, line: mean. From test_tasks.csv.")


def _reliability(configs: Sequence[Config]) -> str:
    found = {config.label: [run.queries for run in config.tested if run.queries is not None] for config in configs}
    of_configs = {label: calibration(queries) for label, queries in found.items() if queries}
    if not of_configs:  # values have no probability
        return ""
    drawing = inline(plots.reliability(list(of_configs), list(of_configs.values())), "calibration")
    return figure(
        drawing,
        "On the diagonal, predictions are right as often as they say; larger points: more queries. From test_predictions.csv.",
    )
