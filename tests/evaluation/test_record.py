"""Scores of tasks are gathered in the order of the tasks, each once."""

import numpy as np
import torch

from fewshot.evaluation.record import TaskRecord


def record_of(*batches):
    record = TaskRecord()
    for index in batches:
        numbers = torch.tensor(index)
        record.update(
            numbers, torch.stack([numbers / 10, numbers / 5], dim=1), torch.stack([numbers * 1.0, numbers * 2.0], dim=1)
        )
    return record


def test_tasks_come_back_in_order():
    scores = record_of([3, 1], [0, 2]).scores()
    assert scores.index.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(scores.accuracy, [[0, 0], [0.1, 0.2], [0.2, 0.4], [0.3, 0.6]], rtol=1e-7)
    np.testing.assert_allclose(scores.loss[:, 1], [0, 2, 4, 6])


def test_a_task_given_twice_counts_once():
    scores = record_of([0, 1], [1, 2]).scores()
    assert scores.index.tolist() == [0, 1, 2]
    assert scores.final_accuracy.mean == np.mean(scores.accuracy[:, 1])


def test_each_step_has_its_interval():
    scores = record_of([0, 1, 2, 3]).scores()
    before, after = scores.accuracy_per_step
    assert before.mean * 2 == after.mean
    assert after == scores.final_accuracy
    assert scores.final_loss.mean == 3


def test_a_task_that_ends_in_outputs_that_are_not_finite_is_counted():
    record = TaskRecord()
    losses = torch.tensor([[1.0, float("nan")], [float("nan"), 1.0], [1.0, float("inf")]])
    record.update(torch.arange(3), torch.zeros(3, 2), losses)
    assert record.scores().nonfinite_tasks == 2


def test_reset_forgets():
    record = record_of([0, 1])
    record.reset()
    record.update(torch.tensor([5]), torch.ones(1, 1), torch.ones(1, 1))
    assert record.scores().index.tolist() == [5]
