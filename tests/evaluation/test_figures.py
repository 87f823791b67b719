"""Curves and maps show the numbers that they were given."""

import numpy as np
import pytest

from fewshot.evaluation.figures import adaptation_curve, adaptation_over_time, rate_map
from fewshot.evaluation.scores import score
from fewshot.evaluation.task_scores import TaskScores

ACCURACY, LOSS = np.array([[0.2, 0.5], [0.2, 0.7], [0.2, 0.9]]), np.array([[1.6, 1.0], [1.6, 0.8], [1.6, 0.6]])
SCORES = TaskScores("acc", np.arange(3), {"acc": ACCURACY, "loss": LOSS})


def test_the_curve_shows_means_and_intervals():
    figure = adaptation_curve(SCORES, "test")
    for axes, expected in zip(figure.axes, ([20, 70], [1.6, 0.8]), strict=True):
        np.testing.assert_allclose(axes.containers[0].lines[0].get_ydata(), expected)
        assert axes.get_ylim()[0] < min(expected) < max(expected) < axes.get_ylim()[1]
    assert figure.get_suptitle() == "test: 3 tasks, 95 % interval"


def test_the_scale_is_that_of_the_steps():
    """What there was before adaptation is written at the edge; ticks are whole numbers of steps."""
    accuracy = np.array([[0.2, 0.90, 0.92, 0.93], [0.2, 0.92, 0.93, 0.94]])
    scores = TaskScores("acc", np.arange(2), {"acc": accuracy, "loss": 2 - accuracy})
    accuracy_axes, loss_axes = adaptation_curve(scores, "test").axes
    for axes in (accuracy_axes, loss_axes):
        low, high = axes.get_ylim()
        assert not low <= axes.containers[0].lines[0].get_ydata()[0] <= high
        assert all(tick == int(tick) for tick in axes.get_xticks())
    assert 60 < accuracy_axes.get_ylim()[0] < 91
    assert "20.0 before" in [text.get_text() for text in accuracy_axes.texts]
    assert "1.8 before" in [text.get_text() for text in loss_axes.texts]


def test_over_time_there_is_a_line_for_each_number_of_steps():
    accuracy, loss = np.array([[0.2, 0.5, 0.6], [0.2, 0.7, 0.8]]), np.array([[1.6, 1.0, 0.9], [1.6, 0.8, 0.7]])
    figure = adaptation_over_time(np.array([100, 200]), accuracy, loss, score("acc"))
    for axes, values in zip(figure.axes, (100 * accuracy, loss), strict=True):
        assert [line.get_label() for line in axes.lines] == ["before adaptation", "after 1 step", "after 2 steps"]
        for line, column in zip(axes.lines, values.T, strict=True):
            np.testing.assert_allclose(line.get_xdata(), [100, 200])
            np.testing.assert_allclose(line.get_ydata(), column)


@pytest.mark.parametrize("lost", [1, 2])
def test_over_time_what_is_not_finite_is_left_out(lost):
    """Of one task of many that diverges, the mean loss is not a number."""
    loss = np.array([[1.6, 1.0, 0.9], [1.6, 0.8, 0.7]])
    loss[2 - lost :, 1:] = np.nan, np.inf
    axes = adaptation_over_time(np.array([100, 200]), loss, loss, score("rmse")).axes[0]
    low, high = axes.get_ylim()
    assert (low < 0.9 < 1 < high < 1.1) if lost == 1 else np.isfinite([low, high]).all()


def test_the_map_of_rates_has_a_row_a_layer_and_a_column_a_step():
    axes = rate_map(np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]), ["features.weight", "head.bias"]).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["features.weight", "head.bias"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "3"]
    assert {(round(text.get_position()[1]), text.get_text()) for text in axes.texts} >= {(0, "0.3"), (1, "0.4")}
