"""The engine of an inner loop is announced in a run, and by nothing that is computed after it."""

import logging
from types import SimpleNamespace

import pytest
from lightning.pytorch.trainer.states import TrainerStatus

from tests.models.model_tester import random_tasks
from tests.models.test_maml import make_model


@pytest.mark.parametrize(("status", "lines"), [(None, 0), (TrainerStatus.RUNNING, 1), (TrainerStatus.FINISHED, 0)])
def test_an_engine_is_announced_once_while_a_trainer_runs(caplog, status, lines):
    model = make_model(engine="auto")
    model._trainer = status and SimpleNamespace(state=SimpleNamespace(status=status))
    with caplog.at_level(logging.INFO):
        for tasks in (2, 3):
            model.evaluate(random_tasks(tasks))
    assert [record.message.partition("=")[0] for record in caplog.records] == ["Inner loop: model.engine"] * lines
