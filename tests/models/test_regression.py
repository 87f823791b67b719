"""Regression: what tasks of real values ask of models, from the loss to the scores."""

import json

import lightning as L
import pytest
import torch
from hydra.errors import InstantiationException

from fewshot.data.datamodule import EpisodicDataModule
from fewshot.data.tables.functions import Functions
from fewshot.errors import UserError
from fewshot.runtime.build import build_model, require_objective
from fewshot.runtime.environment import quieten
from fewshot.runtime.train import check
from fewshot.runtime.trial import try_out
from tests.entry import main

OVERRIDES = ["objective=regression", "model/backbone=mlp_regression", "data.image_shape=[1]", "~model.backbone.filters"]
MODELS = {
    "maml": (["model.inner.lr=0.02", "model.optimizer.lr=0.01"], 0.6),
    "anil": (["model.inner.lr=0.02", "model.inner.eval_steps=1", "model.optimizer.lr=0.01"], 0.95),
    "reptile": (["model.inner.lr=0.02", "model.inner.steps=4", "model.inner.eval_steps=16"], 0.95),
    "r2d2": ([], 0.5),
}
"""Settings, and what share of the error of untrained weights before adaptation is left after 150 steps, at the most."""


def sinusoid_data() -> EpisodicDataModule:
    return EpisodicDataModule(
        *(Functions(part, ["sinusoid"], 10, 10) for part in ("train", "val", "test")),
        cache_dir="", image_shape=[1], meta_batch_size=16, val_tasks=50, test_tasks=50, seed=0,
    )  # fmt: skip


def config_of(compose_config, folder, name):
    return compose_config(folder, f"model={name}", *OVERRIDES, *MODELS.get(name, ([], 0))[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.proof) if name == "reptile" else name for name in MODELS]
)
def test_sinusoids_are_learned(compose_config, tmp_path, name):
    quieten()
    torch.manual_seed(0)
    cfg = config_of(compose_config, tmp_path, name)
    model, data = build_model(cfg), sinusoid_data()
    try_out(cfg, model)
    trainer = L.Trainer(
        max_steps=150, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, inference_mode=False,
    )  # fmt: skip
    trainer.test(model, data, verbose=False)
    untrained = model.scores["test"].deciding[:, 0].mean()
    trainer.fit(model, data)
    figures, scores = trainer.test(model, data, verbose=False)[0], model.scores["test"]
    assert {"test/rmse", "test/rmse_ci95", "test/mse", "test/mae", "test/r2", "test/loss"} <= figures.keys()
    assert figures["test/rmse"] == pytest.approx(scores.deciding[:, -1].mean(), rel=1e-5)
    assert figures["test/mse"] == pytest.approx(figures["test/loss"], rel=1e-5), "the loss is the squared error"
    assert figures["test/rmse"] < MODELS[name][1] * untrained


def test_a_model_of_classes_alone_is_refused_and_those_that_fit_are_named(compose_config, tmp_path):
    with pytest.raises(UserError, match=r"objective=regression but ProtoNet .*: anil, boil, cavia, .*maml, .*r2d2, reptile$"):
        build_model(config_of(compose_config, tmp_path, "protonet"))


def test_targets_of_another_kind_are_refused(compose_config, tmp_path, toy_data):
    model = build_model(config_of(compose_config, tmp_path, "maml"))
    with pytest.raises(UserError, match=r"objective=regression but data\.train is of toy; set objective=classification"):
        require_objective(toy_data(), model)
    require_objective(sinusoid_data(), model)


def test_classes_are_not_asked_of_functions(compose_config, tmp_path):
    classifier = build_model(compose_config(tmp_path, "model=maml", "data.image_shape=[1]", "model/backbone=mlp_regression",
                                            "~model.backbone.filters"))  # fmt: skip
    with pytest.raises(UserError, match=r"objective=classification but data\.train is of sinusoid; set objective=regression"):
        require_objective(sinusoid_data(), classifier)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["control=shuffled_labels"], "control=shuffled_labels but sinusoid has targets that are no labels"),
        (["+data.mean=[0.0]"], "data.mean is for images, and sinusoid has none; set data.mean=null"),
        (["data.ways=5"], "data.train.ways=5 but functions have no classes"),
        (["model/backbone=conv4"], r"Conv4 takes images \(C, H, W\), but data.image_shape=\[1\]"),
    ],
)
def test_what_is_for_classes_or_images_is_refused(compose_config, tmp_path, overrides, words):
    cfg = compose_config(tmp_path, *overrides, "seed=0", experiment="sinusoid_10shot")
    with pytest.raises(InstantiationException, match=words):
        check(cfg, None)


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_run_goes_on_and_is_evaluated_with_other_shots(tmp_path):
    """In the same bits as one that was never interrupted."""
    short = ("experiment=sinusoid_10shot", "seed=0", "data.val_tasks=5", "data.test_tasks=5", "trainer.val_check_interval=2",
             "trainer.log_every_n_steps=1")  # fmt: skip
    for name, steps in (("whole", [4]), ("parts", [2, 4])):
        for number in steps:
            folder = f"hydra.run.dir={tmp_path / name}"
            done = main("train.py", *short, f"trainer.max_steps={number}", "resume=true", folder)
            assert done.code == 0, done.err
    assert (tmp_path / "whole/test_tasks.csv").read_text() == (tmp_path / "parts/test_tasks.csv").read_text()
    done = main("eval.py", f"run={tmp_path / 'whole'}", "data.eval.shots=5", f"hydra.run.dir={tmp_path / 'eval'}")
    assert done.code == 0, done.err
    results = json.loads((tmp_path / "eval/results.json").read_text())
    assert (results["protocol"]["shots"], results["protocol"]["train"]["shots"]) == (5, 10)
    assert len(results["test"]["mse_per_step"]) == 11
