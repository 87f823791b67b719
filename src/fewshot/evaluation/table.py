"""The table at the end of a run."""

from typing import Any

from rich.console import Console
from rich.table import Table


def print_summary(
    metrics: dict[str, float], test: dict[str, Any] | None, protocol: dict[str, Any], cost: dict[str, Any], folder: str
) -> None:
    """Prints accuracies with their intervals, what they were measured on, the cost, and where everything lies."""
    table = Table(show_header=False)
    table.add_column(style="cyan")
    table.add_column()
    if test is not None:
        table.add_row("test accuracy", f"[bold]{_accuracy(metrics, 'test')}[/bold]  ({test['tasks']} tasks on unseen classes)")
        if len(test["acc_per_step"]) > 1:
            table.add_row("by adaptation step", " → ".join(f"{100 * value:.1f}" for value in test["acc_per_step"]))
    if "val/acc" in metrics:
        table.add_row("validation accuracy", f"{_accuracy(metrics, 'val')}  ({protocol['val_tasks']} tasks)")
    table.add_row("protocol", f"{protocol['batch_norm']} batch norm, {protocol['eval_steps']} steps, seed {protocol['seed']}")
    if "train_seconds" in cost:
        table.add_row("training", f"{cost['train_seconds']:.0f} s, {cost['train_tasks_per_second']:.1f} tasks/s")
    table.add_row("peak memory", f"{cost['peak_rss_bytes'] / 2**20:.0f} MiB")
    table.add_row("everything in", folder)
    console = Console()
    # A path is worth more whole than framed: outside a terminal nothing is folded.
    console.width = console.width if console.is_terminal else 160
    console.print(_title(protocol), style="bold", highlight=False)
    console.print(table)


def _title(protocol: dict[str, Any]) -> str:
    return (
        f"{protocol['model']} · {protocol['backbone']} · {protocol['data']} · "
        f"{protocol['ways']}-way {protocol['shots']}-shot, {protocol['queries']} queries a class"
    )


def _accuracy(metrics: dict[str, float], split: str) -> str:
    return f"{100 * metrics[f'{split}/acc']:.2f} ± {100 * metrics[f'{split}/acc_ci95']:.2f} %"
