"""Pictures of functions show what was given, what was asked for and what was predicted."""

import numpy as np

from fewshot.evaluation.function_pictures import function_pictures


def test_each_panel_has_its_task():
    x = np.tile(np.linspace(-5, 5, 4), (7, 1))
    y = x + np.arange(7)[:, None]
    given = (x[:, :2], y[:, :2])
    rmse = {0: np.full(7, 2.0), 5: np.arange(7.0)}
    figure = function_pictures(np.arange(7) + 30, given, x, y, {0: y + 2, 5: y - np.arange(7)[:, None]}, rmse)
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [panel.get_title() for panel in panels] == [f"task {30 + i}: RMSE 2.00 → {i:.2f}" for i in range(7)]
    lines = {line.get_label(): line.get_xydata() for line in panels[3].lines}
    assert list(lines) == ["function", "before adaptation", "after 5 steps", "given points"]
    assert (lines["function"][:, 1] == y[3]).all()
    assert (lines["after 5 steps"][:, 1] == y[3] - 3).all()
    assert (lines["given points"] == np.stack([x[3, :2], y[3, :2]], axis=1)).all()
