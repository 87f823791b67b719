"""Queries one by one, and which classes are taken for which."""

import csv

import torch

from fewshot.evaluation.confusions import confused_pairs, confusion_figure, write_predictions
from fewshot.objectives import NO_CLASS, Predictions

CLASSES = ["cat", "dog", "a class with a name that is longer than any axis, 1"]


def predictions(target, predicted):
    count = len(target)
    return Predictions(
        torch.arange(count) // 2, torch.arange(count), torch.tensor(target), torch.tensor(predicted), torch.full((count,), 0.75)
    )


def test_a_line_for_each_query_with_names(tmp_path):
    path = tmp_path / "test_predictions.csv"
    write_predictions(path, predictions([0, 1, 2], [1, 1, NO_CLASS]), CLASSES, ["a.png", "b, 2.png", "ä.png"])
    rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    assert [row["true"] for row in rows] == CLASSES
    assert [row["predicted"] for row in rows] == ["dog", "dog", ""]
    assert [row["item"] for row in rows] == ["a.png", "b, 2.png", "ä.png"]
    assert [(row["task"], row["row"], row["probability"]) for row in rows] == [
        ("0", "0", "0.75"),
        ("0", "1", "0.75"),
        ("1", "2", "0.75"),
    ]


def test_values_are_written_as_they_are(tmp_path):
    path = tmp_path / "test_predictions.csv"
    write_predictions(path, predictions([0.5, -2.0], [0.25, 1.0]), None)
    rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    assert [(row["true"], row["predicted"], row["probability"], row["item"]) for row in rows] == [
        ("0.5", "0.25", "", ""), ("-2", "1", "", "")
    ]  # fmt: skip


def test_the_most_confused_pair_comes_first():
    found = predictions([0, 0, 0, 1, 2, 2], [1, 1, 2, 1, 0, NO_CLASS])
    assert confused_pairs(found) == [(0, 1, 2), (0, 2, 1), (2, 0, 1)]


def test_pairs_are_drawn_as_shares_of_the_true_class():
    figure = confusion_figure(predictions([0, 0, 0, 1, 2, 2], [1, 1, 2, 1, 0, NO_CLASS]), CLASSES, "test")
    (axes,) = figure.axes
    assert [round(bar.get_width(), 1) for bar in axes.patches] == [66.7, 33.3, 50.0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0] == "cat → dog"
    assert labels[1].endswith("than any axis, 1")
    assert confusion_figure(predictions([0, 1], [0, 1]), CLASSES, "test") is None
