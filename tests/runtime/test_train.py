"""A run from its config to its last file, in this process."""

import csv
import hashlib
import json
import math
import re

import numpy as np
import pytest
import torch
import yaml
from hydra.errors import InstantiationException
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fewshot.errors import UserError
from fewshot.runtime.train import train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory, quick_config):
    """One run, looked at by many tests."""
    folder = tmp_path_factory.mktemp("finished")
    cfg = quick_config(folder, "trainer.max_steps=7")
    metrics = train(cfg)
    return folder / "run", metrics


@pytest.fixture(scope="module")
def results(finished):
    return json.loads((finished[0] / "results.json").read_text())


def test_it_leaves_what_the_contract_says(finished):
    names = {str(path.relative_to(finished[0])) for path in finished[0].rglob("*") if path.is_file()}
    events = {name for name in names if "tfevents" in name}
    assert events
    assert {name.rpartition("/")[0] for name in events} == {"", "final"}
    assert {"results.json", "config.yaml", "metrics.csv", "test_tasks.csv", "adaptation.png", "tasks.png"} <= names
    assert {"checkpoints/last.ckpt", "checkpoints/best.ckpt"} <= names
    assert not [name for name in names if ".part-" in name]


def test_results_have_metrics_protocol_cost_and_provenance(results):
    assert (results["schema"], results["status"]) == (2, "completed")
    assert {"test/acc", "test/acc_ci95", "test/loss", "val/acc"} <= results["metrics"].keys()
    assert results["test"]["tasks"] == 6
    assert len(results["test"]["acc_per_step"]) == 2
    tasks = {"data": "toy", "split": "test", "ways": 3, "shots": 1, "queries": 4, "eval_steps": 1, "seed": 0}
    model = {"model": "MAML", "backbone": "MLP", "engine": "auto", "order": 2, "batch_norm": "transductive"}
    assert (tasks | model).items() <= results["protocol"].items()
    training = {"ways": 3, "shots": 1, "queries": 2, "within": None, "apart": None, "replacement": True}
    training |= {"meta_batch_size": 4, "steps": 7, "checkpoint": "best"}
    assert results["protocol"]["train"] == training
    assert results["protocol"]["splits_units"] == {"train": 10, "val": 10, "test": 10}
    assert results["protocol"]["replacement"] is True
    assert results["cost"]["train_seconds"] > 0
    assert results["cost"]["train_tasks"] == 28
    assert results["cost"]["peak_rss_bytes"] > 2**20
    assert {"git_commit", "command", "packages", "config_sha256", "data_sha256"} <= results["provenance"].keys()


def test_the_hashes_are_those_of_classes_and_config(finished, results):
    names = "\n".join(f"test{i:03d}" for i in range(10))
    assert results["protocol"]["splits_sha256"]["test"] == hashlib.sha256(names.encode()).hexdigest()
    config = yaml.safe_load((finished[0] / "composed.yaml").read_text())
    del config["paths"], config["resume"], config["name"], config["tags"]
    assert results["provenance"]["config_sha256"] == hashlib.sha256(yaml.safe_dump(config, sort_keys=True).encode()).hexdigest()


def test_the_tasks_file_gives_back_the_accuracy(finished, results):
    rows = list(csv.DictReader((finished[0] / "test_tasks.csv").read_text().splitlines()))
    accuracy = np.array([float(row["acc_1"]) for row in rows])
    assert len(accuracy) == 6
    assert results["metrics"]["test/acc"] == pytest.approx(accuracy.mean(), rel=1e-7)
    assert finished[1] == results["metrics"]


def test_best_is_the_checkpoint_with_the_best_validation(finished, results):
    rows = list(csv.DictReader((finished[0] / "metrics.csv").read_text().splitlines()))
    validations = {int(row["step"]): float(row["val/acc"]) for row in rows if row.get("val/acc")}
    assert sorted(validations) == [2, 5, 6]  # every third step, and the last
    best = torch.load(finished[0] / "checkpoints/best.ckpt", weights_only=True)
    last = torch.load(finished[0] / "checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 7
    assert best["global_step"] - 1 == max(validations, key=lambda step: (validations[step], -step))
    assert results["metrics"]["val/acc"] == pytest.approx(max(validations.values()))


def test_training_is_logged_step_by_step(finished):
    rows = list(csv.DictReader((finished[0] / "metrics.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == [*range(7), 7]  # one line a step, whatever was logged of it; the test last
    assert all(row["train/loss"] and row["lr-Adam"] for row in rows[:7])


def test_tensorboard_reads_scalars_pictures_and_hparams(finished, results):
    events, final = (
        EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0}).Reload()
        for folder in (finished[0], finished[0] / "final")
    )
    tags = events.Tags()
    assert {"train/loss", "train/acc", "train/tasks_per_second", "val/acc", "train/lr-Adam"} <= set(tags["scalars"])
    assert {"when trained/test/adaptation", "when trained/test/tasks"} <= set(tags["images"])
    assert [event.step for event in events.Scalars("train/loss")] == list(range(7))
    plugin = final.summary_metadata["_hparams_/session_start_info"].plugin_data
    assert plugin.plugin_name == "hparams"
    assert b"model.inner.lr" in plugin.content
    assert final.Scalars("when trained/test/acc")[-1].value == pytest.approx(results["metrics"]["test/acc"])


def test_a_run_without_a_test_needs_no_test_split(quick_config, tmp_path, monkeypatch):
    from tests.toy import Toy

    asked = []
    original = Toy.classes
    monkeypatch.setattr(Toy, "classes", lambda self, split: asked.append(split) or original(self, split))
    metrics = train(quick_config(tmp_path, "test=false"))
    assert set(asked) == {"train", "val"}
    assert not [name for name in metrics if name.startswith("test")]
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["test"] is None
    assert results["protocol"]["split"] == "val"


def test_the_same_seed_gives_the_same_run_and_another_another(quick_config, tmp_path):
    def weights(name, seed):
        train(quick_config(tmp_path / name, f"seed={seed}", "test=false", "trainer.max_steps=2"))
        return torch.load(tmp_path / name / "run/checkpoints/last.ckpt", weights_only=True)["state_dict"]

    a, b, c = weights("a", 0), weights("b", 0), weights("c", 1)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


def test_validation_at_the_start_is_of_the_untrained_model(quick_config, tmp_path, caplog):
    caplog.set_level("INFO")
    train(quick_config(tmp_path, "val_at_start=true", "test=false", "trainer.max_steps=1"))
    (line,) = [record.message for record in caplog.records if record.message.startswith("Before training")]
    assert 0 <= float(line.rpartition(" ")[2]) <= 1


def test_one_task_has_no_interval(quick_config, tmp_path):
    metrics = train(quick_config(tmp_path, "data.test_tasks=1", "data.val_tasks=1", "trainer.max_steps=1"))
    assert math.isnan(metrics["test/acc_ci95"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.ways=30", r"data\.train\.ways=30 but the train split has 10 classes; choose data\.train\.ways<=10"),
        ("data.eval.ways=4", r"data\.eval\.ways=4 but the network tells 3 classes apart"),
        (
            "data.shots=11",
            r"data\.train\.shots=11 and data\.train\.queries=2 need 13 rows a class, but train000 of the train split has 12",
        ),
        ("data.eval.queries=15", r"data\.val\.shots=1 and data\.val\.queries=15 need 16 rows a class"),
        ("data.shots=0", r"data\.shots=0 must be a whole number of at least 1"),
        ("data.ways=1", r"data\.train\.ways=1 leaves nothing to tell apart"),
        ("data.queries=-1", r"data\.queries=-1 must"),
        ("data.meta_batch_size=0", r"data\.meta_batch_size=0 must"),
        ("data.val_tasks=0", r"data\.val_tasks=0 must"),
        ("data.test_tasks=-5", r"data\.test_tasks=-5 must"),
        ("trainer.max_steps=0", r"trainer\.max_steps=0 must"),
        ("trainer.val_check_interval=0", r"trainer\.val_check_interval=0 must"),
        ("model.inner.lr=0", r"model\.inner\.lr=0 must"),
        ("model.inner.steps=0", r"model\.inner\.steps=0 must"),
        ("model.engine=learn2lern", r"model\.engine=learn2lern is unknown; did you mean 'learn2learn'"),
        ("model.batch_norm=none", r"model\.batch_norm=none is unknown"),
        ("seed=-1", r"seed=-1 must"),
        ("seed=4294967296", r"seed=4294967296 must be at most 4294967295"),
    ],
)
def test_a_mistake_is_found_before_anything_is_decoded(quick_config, tmp_path, monkeypatch, override, message):
    from tests.toy import Toy

    monkeypatch.setattr(Toy, "images", lambda *_: pytest.fail("images were decoded"))
    with pytest.raises((UserError, InstantiationException)) as raised:
        train(quick_config(tmp_path, override))
    error = raised.value if isinstance(raised.value, UserError) else raised.value.__cause__
    assert isinstance(error, UserError)
    assert re.match(message, str(error))
    assert "\n" not in str(error)
    assert not (tmp_path / "run/checkpoints").exists()


def test_bf16_mixed_trains_and_is_recorded(quick_config, tmp_path):
    metrics = train(quick_config(tmp_path, "trainer.precision=bf16-mixed"))
    assert 0 <= metrics["test/acc"] <= 1
    assert json.loads((tmp_path / "run/results.json").read_text())["protocol"]["precision"] == "bf16-mixed"
