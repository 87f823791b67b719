"""Controls: runs that must not learn, or that do not train."""

import json

import pytest
import torch

from fewshot.errors import UserError
from fewshot.runtime.train import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]


def results(folder):
    return json.loads((folder / "run/results.json").read_text())


def test_shuffled_labels_end_at_chance_within_the_interval(quick_config, tmp_path):
    metrics = train(quick_config(tmp_path, "control=shuffled_labels", "trainer.max_steps=60", "data.test_tasks=200"))
    assert abs(metrics["test/acc"] - 1 / 3) <= metrics["test/acc_ci95"]
    assert results(tmp_path)["protocol"]["control"] == "shuffled_labels"


def test_shuffled_labels_are_a_function_of_the_task_and_keep_their_numbers(toy_data):
    data = toy_data(shuffled_labels=True, shots=2)
    data.setup("fit")
    first, again = (data.meta_batches("train", 40)[3][0] for _ in range(2))
    assert torch.equal(first.support_y, again.support_y)
    assert torch.equal(first.support_y.sort(dim=1).values, torch.tensor([0, 0, 1, 1, 2, 2]).expand(4, 6))
    honest = toy_data(shots=2)
    honest.setup("fit")
    other = honest.meta_batches("train", 40)[3][0]
    assert torch.equal(other.support_x, first.support_x)
    assert not torch.equal(other.support_y, first.support_y)
    assert not torch.equal(first.support_y[0], first.support_y[1])


def test_random_init_takes_no_step_and_tests_the_first_weights(quick_config, tmp_path, capsys):
    metrics = train(quick_config(tmp_path, "control=random_init"))
    assert not (tmp_path / "run/checkpoints").exists()
    assert results(tmp_path)["protocol"]["train"]["steps"] == 0
    assert results(tmp_path)["cost"]["train_tasks"] == 0
    assert (results(tmp_path)["status"], results(tmp_path)["cut_short"]) == ("completed", [])
    assert "tasks/s" not in capsys.readouterr().out
    assert metrics["test/acc"] > metrics["test/acc_before"], "adaptation alone achieves something"


def test_without_a_test_the_figures_are_those_of_the_best_checkpoint(quick_config, tmp_path):
    metrics = train(quick_config(tmp_path, "control=random_init", "test=false"))
    assert 0 < metrics["val/acc"] <= 1


def test_an_unknown_control_is_refused(quick_config, tmp_path):
    with pytest.raises(UserError, match="control=shuffled_label is unknown; did you mean 'shuffled_labels'"):
        train(quick_config(tmp_path, "control=shuffled_label"))


def test_all_controls_stand_beside_the_run_and_come_from_one_seed(quick_config, tmp_path, capsys):
    alone = train(quick_config(tmp_path / "alone", "seed=3"))
    random_init = train(quick_config(tmp_path / "random", "seed=3", "control=random_init"))
    metrics = train(quick_config(tmp_path, "seed=3", "control=all"))
    assert metrics == alone
    found = results(tmp_path)["controls"]
    assert found["random_init"]["metrics"] == random_init
    assert found["shuffled_labels"]["chance"] == pytest.approx(1 / 3)
    assert results(tmp_path)["protocol"]["control"] is None
    shuffled = json.loads((tmp_path / "run/controls/shuffled_labels/results.json").read_text())
    assert shuffled["protocol"]["control"] == "shuffled_labels"
    assert found["shuffled_labels"]["metrics"] == shuffled["metrics"]
    assert "random init" in capsys.readouterr().out.split("controls ")[1]


def test_controls_are_added_to_a_run_that_was_complete_without_them(quick_config, tmp_path, monkeypatch):
    train(quick_config(tmp_path, "seed=null"))
    before = results(tmp_path)
    train(quick_config(tmp_path, "seed=null", "control=all"))
    after = results(tmp_path)
    assert {name: after[name] for name in before} == before
    assert set(after["controls"]) == {"shuffled_labels", "random_init"}
    controls = json.loads((tmp_path / "run/controls/random_init/results.json").read_text())
    assert controls["protocol"]["seed"] == before["protocol"]["seed"]
    monkeypatch.setattr("fewshot.runtime.train.run_training", lambda *_: pytest.fail("all is complete"))
    train(quick_config(tmp_path, "seed=null", "control=all"))
    assert results(tmp_path) == after
