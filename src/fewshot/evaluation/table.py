"""The table at the end of a run."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from fewshot.evaluation.scores import formatted, score, with_interval

FURTHER = ("ece", "auroc", "mae", "r2", "rmse_pooled", "ndcg5", "ndcg5_constant")
"""Scores that the table shows beside the one that decides; ``results.json`` has them all."""
UNKNOWN = "test/unknown_auroc_"
"""What metrics begin with that say how well queries of no class of a task are told from its own."""


def print_summary(
    metrics: dict[str, float],
    test: dict[str, Any] | None,
    protocol: dict[str, Any],
    cost: dict[str, Any],
    folder: str,
    cut_short: Sequence[str] = (),
    controls: Mapping[str, Any] | None = None,
) -> None:
    """Prints the score that decides with its intervals, what they were measured on, the cost, and where everything lies.

    Nothing is cut off, however narrow the terminal: cells are folded, and the folder has a line of its own that can be copied.

    Args:
        metrics, test, protocol, cost, cut_short, controls: sections of ``results.json``.
        folder: of the run.
    """
    decides = protocol.get("objective", {}).get("monitor", "acc")
    label = score(decides).label
    table = Table(show_header=False)
    table.add_column(style="cyan", overflow="fold")
    table.add_column(overflow="fold")
    if test is not None:
        measured = f"[bold]{_interval(metrics, 'test', decides)}[/bold]"
        seen = protocol.get("seen_classes", {}).get("test", 0)
        classes = f" on classes of which {seen} were trained on" if seen else " on unseen classes" if decides == "acc" else ""
        table.add_row(f"test {label}", f"{measured}  ({tasks_text(test['tasks'])}{classes})")
        per_step = test[f"{decides}_per_step"]
        if len(per_step) > 1:
            table.add_row("by adaptation step", " → ".join(formatted(decides, value, fewer=1) for value in per_step))
        found = {name: metrics[f"test/{name}"] for name in FURTHER if f"test/{name}" in metrics and name != decides}
        further = [f"{score(name).label} {formatted(name, value)}" for name, value in found.items()]
        if further:
            table.add_row("further", ", ".join(further))
        if told := [name.removeprefix(UNKNOWN) for name in metrics if name.startswith(UNKNOWN) and not name.endswith("_ci95")]:
            each = [
                f"{100 * metrics[UNKNOWN + name]:.2f} ± {100 * metrics[f'{UNKNOWN}{name}_ci95']:.2f} by {name}" for name in told
            ]
            table.add_row("unknown queries", f"AUROC {', '.join(each)} %")
    if f"val/{decides}" in metrics:
        table.add_row(f"validation {label}", f"{_interval(metrics, 'val', decides)}  ({tasks_text(protocol['val_tasks'])})")
    for split in ("test", "val"):
        if count := metrics.get(f"{split}/nonfinite_tasks"):
            table.add_row("[red]not finite[/red]", f"outputs of {count:.0f} of the {split} tasks; such queries count as wrong")
    if controls:
        table.add_row("controls", ", ".join(control_text(name, control, decides) for name, control in controls.items()))
    if cut_short:
        table.add_row("[red]cut short[/red]", ", ".join(cut_short))
    together = f"ensemble of {kept} checkpoints, " if (kept := protocol.get("ensemble")) else ""
    norm = protocol["batch_norm"].replace("none", "no")
    table.add_row("protocol", f"{together}{norm} batch norm, {protocol['eval_steps']} steps, seed {protocol['seed']}")
    if cost.get("train_seconds"):  # else there was no outer step
        table.add_row("training", f"{cost['train_seconds']:.0f} s, {cost['train_tasks_per_second']:.1f} tasks/s")
    table.add_row("peak memory", f"{cost['peak_rss_bytes'] / 2**20:.0f} MiB")
    console = Console()
    console.width = console.width if console.is_terminal else 160
    console.print(_title(protocol), style="bold", highlight=False)
    console.print(table)
    console.print(f"everything in {folder}", soft_wrap=True, highlight=False, markup=False)


def control_text(name: str, control: Mapping[str, Any], decides: str) -> str:
    """What a control came to, as in ``shuffled labels 20.13 ± 0.51 % (chance 20.00)``."""
    metrics = control["metrics"]
    split = "test" if f"test/{decides}" in metrics else "val"
    chance = f" (chance {formatted(decides, control['chance'])})" if control["chance"] and decides == "acc" else ""
    return f"{name.replace('_', ' ')} {_interval(metrics, split, decides)}{chance}"


def _title(protocol: dict[str, Any]) -> str:
    of_class = " a class" if protocol["ways"] != 1 else ""
    return (
        f"{protocol['model']} · {protocol['backbone']} · {protocol['data']} · "
        f"{task_text(protocol)}, {protocol['queries']} queries{of_class}"
    )


def task_text(size: Mapping[str, Any]) -> str:
    """Ways and shots in words, as in ``5-way 1-shot``; tasks without classes have shots alone."""
    if size["shots"] == "rest":
        return "all other rows as shots"
    ways = "" if size["ways"] == 1 else f"{size_text(size['ways'])}-way "
    return f"{ways}{size_text(size['shots'])}-shot"


def size_text(number: Any) -> str:
    """A number of ways or shots in words, also where it is drawn."""
    return f"{number[0]} to {number[-1]}" if isinstance(number, list | tuple) else str(number)


def tasks_text(count: int) -> str:
    """A number of tasks in words."""
    return "1 task" if count == 1 else f"{count:,} tasks"


def _interval(metrics: dict[str, float], split: str, name: str) -> str:
    return with_interval(name, metrics[f"{split}/{name}"], metrics[f"{split}/{name}_ci95"])
