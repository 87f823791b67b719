"""Pictures of tasks say what became of each image."""

import matplotlib
import numpy as np
import pytest

from fewshot.evaluation.pictures import task_pictures, worst_tasks


def frames(axes):
    return [patch.get_edgecolor()[:3] for patch in axes.patches]


def captions(axes):
    return [text.get_text() for text in axes.texts]


def test_queries_are_framed_and_say_how_sure_the_model_was():
    support, query = np.zeros((1, 2, 8, 8, 1)), np.zeros((1, 4, 8, 8, 1))
    confidence = np.array([[0.9, 0.55, 0.8, 1.0]])
    figure = task_pictures(
        np.array([7]), support, query, np.array([[0, 1, -1, 1]]), confidence, [["alpha", "a_name_that_is_long"]]
    )
    (axes,) = figure.axes
    assert [colour[1] > colour[0] for colour in frames(axes)] == [True, False, False, True]
    assert captions(axes) == ["1: alpha", "90 %", "→ 2, 55 %", "2: …_that_is_long", "not finite", "100 %"]
    assert axes.get_title() == "task 7: 2 of 4 queries right, 50 %"
    assert figure.get_suptitle().startswith("of each class: 1 support, 2 queries, with the")


def test_it_is_said_where_not_all_images_are_shown():
    support, query, classes = np.zeros((1, 6, 8, 8, 1)), np.zeros((1, 14, 8, 8, 1)), [["a", "b"]]
    figure = task_pictures(np.array([0]), support, query, np.zeros((1, 14), dtype=int), np.ones((1, 14)), classes)
    assert figure.axes[0].get_title() == "task 0: 7 of 14 queries right, 50 %"
    assert figure.get_suptitle().startswith("of each class: 2 of 3 support, 5 of 7 queries, with the")


def test_each_image_lies_where_its_class_is():
    """Grey values count up through the images of a task, class by class."""
    support, query = np.arange(4).reshape(1, 4, 1, 1, 1) / 20, np.arange(4, 10).reshape(1, 6, 1, 1, 1) / 20
    nothing = np.zeros((1, 6), dtype=int)
    (axes,) = task_pictures(np.array([0]), support.repeat(8, 2).repeat(8, 3), query.repeat(8, 2).repeat(8, 3), nothing, nothing,
                            [["a", "b"]]).axes  # fmt: skip
    canvas = axes.images[0].get_array()
    rows = [canvas[row, 4:36:9][:, 0] * 20 for row in (4, 16)]
    np.testing.assert_allclose(rows[0][:3], [0, 1, 4])
    np.testing.assert_allclose(rows[1][:3], [2, 3, 7])


@pytest.mark.parametrize("channels", [1, 3])
def test_the_worst_tasks_show_the_accuracy_of_each_class(channels):
    support, accuracy = np.zeros((2, 2, 8, 8, channels)), np.array([[0.0, 0.5], [0.25, 1.0]])
    (axes,) = worst_tasks(np.array([11, 3]), support, [["A", "B"], ["C", "D"]], accuracy).axes
    texts = ["A\n0 %", "B\n50 %", "C\n25 %", "D\n100 %", "task 11\n25 %", "task 3\n62 %"]
    assert captions(axes) == texts
    expected = [matplotlib.colormaps["RdYlGn"](share)[:3] for share in (0.0, 0.5, 0.25, 1.0)]
    np.testing.assert_allclose(frames(axes), expected)
