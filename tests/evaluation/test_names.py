r"""Whatever users call their classes and configs, figures show it as text: ``$\x$`` is no formula."""

import io

import numpy as np
import pytest
import torch

from fewshot.data.images import sheet
from fewshot.evaluation.comparison import EvaluatedRun
from fewshot.evaluation.confusions import confusion_figure
from fewshot.evaluation.figures import rate_map
from fewshot.evaluation.pictures import task_pictures, worst_tasks
from fewshot.matrix.heat_map import write_heat_map
from fewshot.objectives import Predictions
from fewshot.predict import contact_sheet
from fewshot.sweep.groups import Group
from fewshot.sweep.plot import plot

NAME = r"$\x$"
PIXELS = np.zeros((1, 1, 4, 4), dtype=np.uint8)
IMAGES = np.zeros((1, 2, 4, 4, 1))


def confusions(path):
    return confusion_figure(
        Predictions(*(torch.tensor([0, 1]) for _ in range(3)), torch.tensor([1, 0]), torch.ones(2)), [NAME] * 2, "test"
    )


def tasks(path):
    return task_pictures(np.array([0]), IMAGES, IMAGES, np.zeros((1, 2), dtype=int), np.ones((1, 2)), [[NAME, NAME]])


def hard_tasks(path):
    return worst_tasks(np.array([0]), IMAGES, [[NAME, NAME]], np.ones((1, 2)))


def rates(path):
    return rate_map(np.ones((1, 2)), [NAME])


def predictions(path):
    contact_sheet.write_sheet(path, PIXELS, PIXELS, [NAME], [0.9], [None])


def data_set(path):
    sheet.write_sheet(path, NAME, {"train": [(NAME, [PIXELS[0]])]})


def matrix(path):
    write_heat_map(path, [(NAME, np.ones((1, 1)))], [NAME], [NAME], (NAME, NAME))


def sweep(path):
    tested = EvaluatedRun(0, "acc", np.array([0.1, 0.2]), "list")
    plot([Group((NAME,), (NAME,), (), "acc", 0.5, (tested,), 1.0, "published", frozenset())], path)


@pytest.mark.parametrize("draw", [confusions, tasks, hard_tasks, rates, predictions, data_set, matrix, sweep])
def test_a_name_that_looks_like_a_formula_is_drawn(tmp_path, draw):
    figure = draw(tmp_path / "figure.png")
    if figure is not None:
        figure.savefig(io.BytesIO(), format="png")
