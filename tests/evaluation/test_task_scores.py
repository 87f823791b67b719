"""Scores of tasks are gathered in the order of the tasks, each once."""

import numpy as np
import pytest
import torch

from fewshot.evaluation.task_scores import PredictionRecord, TaskRecord, TaskScores
from fewshot.objectives import Predictions


def scores_of(*batches):
    record = TaskRecord(["acc", "loss"], ["nll"])
    for index in batches:
        numbers = torch.tensor(index)
        accuracy, loss = torch.stack([numbers / 10, numbers / 5], dim=1), torch.stack([numbers * 1.0, numbers * 2.0], dim=1)
        record.update(numbers, {"acc": accuracy, "loss": loss, "nll": numbers * 3.0})
    return TaskScores("acc", *record.figures())


def test_tasks_come_back_in_order():
    scores = scores_of([3, 1], [0, 2])
    assert scores.index.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(scores.deciding, [[0, 0], [0.1, 0.2], [0.2, 0.4], [0.3, 0.6]], rtol=1e-7)
    np.testing.assert_allclose(scores.loss[:, 1], [0, 2, 4, 6])
    np.testing.assert_allclose(scores.last["nll"], [0, 3, 6, 9])


def test_a_task_given_twice_counts_once():
    scores = scores_of([0, 1], [1, 2])
    assert scores.index.tolist() == [0, 1, 2]
    assert scores.final.mean == np.mean(scores.deciding[:, 1])


def test_a_task_that_ends_in_outputs_that_are_not_finite_is_counted():
    record = TaskRecord(["acc", "loss"])
    losses = torch.tensor([[1.0, float("nan")], [float("nan"), 1.0], [1.0, float("inf")]])
    record.update(torch.arange(3), {"acc": torch.zeros(3, 2), "loss": losses})
    assert TaskScores("acc", *record.figures()).nonfinite_tasks == 2


def test_reset_forgets_and_one_task_without_steps_keeps_its_shape():
    record = TaskRecord(["acc", "loss"], ["nll"])
    one = torch.ones(1, 1)
    record.update(torch.tensor([7]), {"acc": one, "loss": one})
    record.reset()
    record.update(torch.tensor([5]), {"acc": one, "loss": one})
    scores = TaskScores("acc", *record.figures())
    assert scores.index.tolist() == [5]
    assert scores.deciding.shape == (1, 1)
    assert scores.last == {}


@pytest.mark.parametrize("queries", [1, 3])
def test_queries_come_back_by_task_and_row_each_once(queries):
    record = PredictionRecord()
    assert record.predictions() is None
    for task in (2, 0, 2):
        rows = torch.arange(queries).flip(0)
        record.update(Predictions(torch.full((queries,), task), rows, rows + task, rows * 2, rows / 10))
    found = record.predictions()
    assert found.task.tolist() == [0] * queries + [2] * queries
    assert found.row.tolist() == [*range(queries)] * 2
    assert (found.target == found.row + found.task).all()
