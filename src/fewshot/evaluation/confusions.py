"""Query by query: ``test_predictions.csv``, and which classes are taken for which."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from fewshot.files import written_whole
from fewshot.objectives import NO_CLASS, Predictions

SHOWN_PAIRS = 20
LONGEST_NAME = 32
"""Characters of a class's name in the figure; its end is kept, which tells ``alphabet/character01`` from its like."""


def write_predictions(
    path: Path, predictions: Predictions, classes: Sequence[str] | None, items: Sequence[str] | None = None
) -> None:
    """A CSV line a query: task, row, item, what is right, what was predicted, and the probability of that.

    Args:
        path: of the file.
        predictions: of all tasks.
        classes: names, by the numbers in `predictions`; None where tasks ask for values.
        items: what each row of the part's table is called (a file, a sentence's id); None leaves the column empty.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["task", "row", "item", "true", "predicted", "probability"])
    columns = (getattr(predictions, name).tolist() for name in ("task", "row", "target", "predicted", "probability"))
    for task, row, target, predicted, probability in zip(*columns, strict=True):
        answers = [_name(classes, value) for value in (target, predicted)]
        writer.writerow([task, row, items[row] if items else "", *answers, "" if classes is None else f"{probability:.6g}"])
    with written_whole(path) as file:
        file.write(text.getvalue().encode())


def confused_pairs(predictions: Predictions) -> list[tuple[int, int, int]]:
    """Which class was taken for which other, and how often: ``(true, predicted, queries)``, the most frequent first."""
    pairs = zip(predictions.target.tolist(), predictions.predicted.tolist(), strict=True)
    counts = Counter((true, predicted) for true, predicted in pairs if true != predicted and predicted != NO_CLASS)
    return [(*pair, count) for pair, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def confusion_figure(predictions: Predictions, classes: Sequence[str], split: str) -> Figure | None:
    """The most confused pairs of classes as bars; None where no query was taken for another class.

    A pair's share is of the queries of the true class in all tasks, also in those where the other class was no choice.
    """
    pairs = confused_pairs(predictions)[:SHOWN_PAIRS]
    if not pairs:
        return None
    asked = Counter(predictions.target.tolist())
    labels = [f"{_short(classes[true])} → {_short(classes[predicted])}" for true, predicted, _ in pairs]
    figure = Figure(figsize=(7, 1.1 + 0.26 * len(pairs)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(pairs)), [100 * count / asked[true] for true, _, count in pairs], color="tab:red", alpha=0.7)
    for height, (_, _, count) in enumerate(pairs):
        axes.annotate(f" {count}", (100 * count / asked[pairs[height][0]], height), va="center", fontsize=7)
    axes.set_yticks(range(len(pairs)), labels, fontsize=8, parse_math=False)  # a class may be called $x$
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set(
        xlabel="% of the true class's queries; their number beside the bar", title=f"{split}: true class → predicted class"
    )
    return figure


def _name(classes: Sequence[str] | None, value: float) -> str:
    if classes is None:  # values, or labels that no class has named
        return f"{value:.9g}"
    return "" if value == NO_CLASS else classes[int(value)]


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}"
