"""Curves and maps show the numbers that they were given."""

import numpy as np

from fewshot.evaluation.figures import adaptation_curve, adaptation_over_time, rate_map
from fewshot.evaluation.record import TaskScores

SCORES = TaskScores(
    np.array([0, 1, 2]), np.array([[0.2, 0.5], [0.2, 0.7], [0.2, 0.9]]), np.array([[1.6, 1.0], [1.6, 0.8], [1.6, 0.6]])
)


def test_the_curve_shows_means_and_intervals():
    (axes,) = adaptation_curve(SCORES, "test").axes
    line = axes.containers[0].lines[0]
    np.testing.assert_allclose(line.get_ydata(), [20, 70])
    assert axes.get_title() == "test: 3 tasks, 95 % interval"


def test_over_time_there_is_a_line_for_each_number_of_steps():
    accuracy, loss = np.array([[0.2, 0.5, 0.6], [0.2, 0.7, 0.8]]), np.array([[1.6, 1.0, 0.9], [1.6, 0.8, 0.7]])
    figure = adaptation_over_time(np.array([100, 200]), accuracy, loss)
    for axes, values in zip(figure.axes, (100 * accuracy, loss), strict=True):
        assert [line.get_label() for line in axes.lines] == ["before adaptation", "after 1 step", "after 2 steps"]
        for line, column in zip(axes.lines, values.T, strict=True):
            np.testing.assert_allclose(line.get_xdata(), [100, 200])
            np.testing.assert_allclose(line.get_ydata(), column)


def test_the_map_of_rates_has_a_row_a_layer_and_a_column_a_step():
    axes = rate_map(np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]), ["features.weight", "head.bias"]).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["features.weight", "head.bias"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "3"]
    assert {(round(text.get_position()[1]), text.get_text()) for text in axes.texts} >= {(0, "0.3"), (1, "0.4")}
