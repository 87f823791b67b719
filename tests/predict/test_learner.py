"""The predictor says what an evaluation says, of every algorithm, and takes what users bring."""

import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot import FewShotLearner
from fewshot.errors import UserError
from fewshot.predict.targets import build
from tests.runs import tasks_of, untrained

CONFIGS = Path(__file__).parents[2] / "configs"
MODELS = sorted(
    path.stem for path in (CONFIGS / "model").glob("*.yaml") if not path.stem.startswith(("_", "tfidf_", "rating_"))
)
RELATIVES = {"anil", "boil", "fomaml", "kfo", "metacurvature", "metasgd"}
"""MAML with other fields."""


def marked(model):
    """One of each family is fast, and MAML's relatives are left to the proofs."""
    if model in ("maml", "protonet", "r2d2", "baseline"):
        return model
    return pytest.param(model, marks=pytest.mark.proof if model in RELATIVES else pytest.mark.slow)


EVERY = [marked(model) for model in MODELS]
FIXED = {"maml", "fomaml", "anil", "boil", "metasgd", "mamlpp", "metacurvature", "kfo", "cavia", "imaml", "reptile"}
TRUST = ("tests",)
ON_WAVES = (
    "data=sinusoid", "objective=regression", "model/backbone=mlp_regression", "~model.backbone.filters", "data.ways=1",
)  # fmt: skip
"""A regression of sine waves."""
SHORTER = {"tim": ["model.iterations=20"], "baseline": ["model.epochs=10"], "baselinepp": ["model.epochs=10"]}


@pytest.fixture
def run(compose_config, tmp_path):
    """The folder of an untrained run, its config and its model."""

    def make(*overrides):
        cfg = compose_config(tmp_path, *overrides)
        folder, model = untrained(cfg)
        return folder, cfg, model

    return make


@pytest.fixture(scope="module")
def trained(compose_config, tmp_path_factory):
    """By model: the folder of an untrained run, its model, and three tasks, as rows and as the model sees them."""

    @cache
    def make(model):
        cfg = compose_config(tmp_path_factory.mktemp(model), f"model={model}", *SHORTER.get(model, ()))
        return *untrained(cfg), *tasks_of(cfg)

    return make


@pytest.mark.parametrize("model", EVERY)
def test_outputs_equal_those_of_an_evaluation_to_the_bit(trained, model):
    folder, evaluated, rows, scaled = trained(model)
    among_others = evaluated.evaluate(scaled)[0, -1].detach()  # stacked tasks round otherwise than one
    expected = evaluated.evaluate(scaled.slice(0, 1))[0, -1].detach()
    torch.testing.assert_close(among_others, expected, rtol=1e-3, atol=1e-3)
    learner = FewShotLearner.from_run(folder, transductive=True, trust=TRUST)
    learner.fit(rows.support_x[0], rows.support_y[0])
    assert torch.equal(torch.from_numpy(learner.decision_function(rows.query_x[0])), expected)
    learner.fit(rows.support_x[0], rows.support_y[0])
    assert torch.equal(torch.from_numpy(learner.decision_function(rows.query_x[0])), expected), "the same again"
    chosen = expected.argmax(dim=1).numpy()
    assert np.array_equal(learner.predict(rows.query_x[0]), chosen)
    module = learner.adapt()
    torch.testing.assert_close(module(rows.query_x[0]), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", EVERY)
def test_each_query_is_answered_by_itself(trained, model):
    folder, _, rows, _ = trained(model)
    x, y = rows.support_x[0], np.array(["b", "a", "ü"])[rows.support_y[0]]
    more = torch.cat([x, rows.query_x[0][:2]])  # unequal numbers of each class
    labels = [*y, "a", "ü"]
    learner = FewShotLearner.from_run(folder, trust=TRUST).fit(more, labels)
    queries = rows.query_x[0]
    together = learner.decision_function(queries)
    alone = np.concatenate([learner.decision_function(query[None]) for query in queries])
    np.testing.assert_allclose(alone, together, rtol=1e-3, atol=1e-4)
    assert learner.classes_.tolist() == ["a", "b", "ü"]
    np.testing.assert_allclose(learner.predict_proba(queries).sum(axis=1), 1, rtol=1e-5)
    torch.testing.assert_close(learner.adapt()(queries), torch.from_numpy(together), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("model", EVERY)
def test_more_classes_than_in_training(trained, model):
    folder, _, rows, _ = trained(model)
    x, y = rows.query_x[0], np.arange(len(rows.query_x[0])) % 5
    learner = FewShotLearner.from_run(folder, trust=TRUST)
    if model in FIXED:
        with pytest.raises(UserError, match=r"5 classes, but this .* tells at most 3 apart"):
            learner.fit(x, y)
    else:
        assert learner.fit(x, y).decision_function(x).shape == (len(x), 5)


def test_what_is_saved_predicts_the_same_without_the_run(run, tmp_path):
    folder, cfg, _ = run("model=anil")
    rows, _ = tasks_of(cfg, count=1)
    learner = FewShotLearner.from_run(folder, trust=TRUST).fit(rows.support_x[0], ["b", "a", "c"])
    learner.save(tmp_path / "saved")
    expected = learner.decision_function(rows.query_x[0])
    shutil.rmtree(folder)
    loaded = FewShotLearner.load(tmp_path / "saved", trust=TRUST)
    assert loaded.classes_.tolist() == ["a", "b", "c"]
    assert np.array_equal(loaded.decision_function(rows.query_x[0]), expected)
    with pytest.raises(UserError, match="is not empty; choose another folder"):
        loaded.save(tmp_path)
    (tmp_path / "saved/learner.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(UserError, match="is no whole safetensors file"):
        FewShotLearner.load(tmp_path / "saved", trust=TRUST)


def test_files_images_and_arrays_are_the_same_rows(run, tmp_path):
    folder, cfg, _ = run("model=protonet")
    images = tasks_of(cfg, count=1)[0].query_x[0]
    for number, image in enumerate(images):
        Image.fromarray(image[0].numpy()).save(tmp_path / f"{number:02d}.png")
    paths = [tmp_path / f"{number:02d}.png" for number in range(len(images))]
    pictures = [Image.fromarray(image[0].numpy()) for image in images]
    learner = FewShotLearner.from_run(folder, trust=TRUST)
    arrays = [images, images[:, 0].numpy(), images.flatten(1).numpy(), list(images), [image[0].numpy() for image in images]]
    for given in (*arrays, paths, [str(path) for path in paths], np.array([str(path) for path in paths]), pictures):
        assert torch.equal(learner.rows(given), images)
    assert torch.equal(learner.rows(paths[0]), images[:1])
    # 0 to 1, as torchvision's ToTensor has them
    torch.testing.assert_close(learner.predictor.scale(images.double().div(255).float()), learner._predictor.scale(images))
    with pytest.raises(UserError, match=r"nowhere\.png cannot be read"):
        learner.rows(["nowhere.png"])


def test_an_array_that_may_be_one_image_or_several_is_refused(run):
    folder, _, _ = run("model=protonet", "data=glyphs", "data.image_shape=[1,28,28]")
    learner = FewShotLearner.from_run(folder, trust=TRUST)
    picture = np.zeros((40, 50, 3), np.uint8)
    assert learner.rows(picture[None]).shape == learner.rows([picture]).shape == (1, 1, 28, 28)
    assert learner.rows(picture[:, :, 0][None]).shape == (1, 1, 28, 28)
    drawn = picture.copy()
    drawn[10:20, 5:45] = 200
    for first in (torch.from_numpy(drawn).permute(2, 0, 1)[None], drawn[:, :, :1].transpose(2, 0, 1)[None]):
        assert torch.equal(learner.rows(first), learner.rows([drawn]))  # channels first, as PyTorch has them
    with pytest.raises(UserError, match=r"an array of shape \[40, 50, 7\] is no image"):
        learner.rows(np.zeros((2, 40, 50, 7), np.uint8))
    with pytest.raises(UserError, match=r"may be one image or 40 grey ones; give x\[None\] for one"):
        learner.rows(picture)


class Labelled:
    """As a column of pandas is: its items have names, of which 0 is none here."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, name):
        raise KeyError(name)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.items, dtype)


def test_columns_of_tables_are_taken(run, tmp_path):
    folder, cfg, _ = run("model=protonet")
    images = tasks_of(cfg, count=1)[0].query_x[0][:2]
    paths = [str(tmp_path / f"{number}.png") for number in range(2)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image[0].numpy()).save(path)
    learner = FewShotLearner.from_run(folder, trust=TRUST)
    assert torch.equal(learner.rows(Labelled(paths)), images)
    assert learner.fit(Labelled(paths), Labelled(["b", "a"])).predict(Labelled(paths)).shape == (2,)


def test_outputs_that_are_not_finite_are_no_answers(run, monkeypatch):
    folder, cfg, _ = run("model=protonet")
    rows, _ = tasks_of(cfg, count=1)
    x, y = rows.support_x[0], rows.support_y[0]
    learner = FewShotLearner.from_run(folder, trust=TRUST).fit(x, y)
    lost = torch.full((1, 1, len(x), 3), 0.5)
    lost[0, 0, 1, 2] = torch.nan
    monkeypatch.setattr(learner.predictor.model, "evaluate", lambda _: lost)
    for ask in (learner.predict, learner.predict_proba, learner.decision_function):
        with pytest.raises(UserError, match=f"outputs for 1 of {len(x)} inputs are not finite"):
            ask(x)


def test_inputs_are_encoded_as_what_was_trained_on_is(run):
    """Not as the source of the other parts: Omniglot's drawings are turned to light ink, a folder's are not."""
    other = ["data/source@data.train.source=omniglot", "data.image_shape=[1,28,28]", "data.train.source.data_dir=nowhere"]
    folder, _, _ = run("model=protonet", "data=glyphs", *other)
    assert "omniglot" in FewShotLearner.from_run(folder, trust=TRUST).predictor.run.source.name


@pytest.mark.parametrize(("data", "says"), [((), True), (("model.batch_norm=inductive",), False), (ON_WAVES, False)])
def test_queries_that_were_answered_together_in_the_test_are_told_of_once(run, caplog, data, says):
    """Not where the network has no batch normalisation."""
    folder, cfg, _ = run("model=maml", *data)
    rows, _ = tasks_of(cfg, count=1)
    for _ in range(2):
        FewShotLearner.from_run(folder, trust=TRUST).fit(rows.support_x[0], rows.support_y[0])
    told = [record for record in caplog.records if "transductive=True does as published" in record.message]
    assert len(told) == says


def test_rows_are_scaled_as_the_data_module_does(run, tmp_path):
    folder, cfg, _ = run("data.mean=[0.3]", "data.std=[0.17]")
    rows, scaled = tasks_of(cfg, count=1)
    scale = FewShotLearner.from_run(folder, trust=TRUST)._predictor.scale
    assert torch.equal(scale(rows.support_x), scaled.support_x)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("os.system", "is no part of fewshot; where you trust it, pass trust=[os]"),
        ("fewshot.data.source.np.load", "cannot be imported"),
        ("fewshot.data.source.require", "is no class of its package"),
        ("fewshot.sweep.__main__.main", "is no part of fewshot"),
        ("fewshot.models.nothing.Model", "cannot be imported"),
        ("torch.nn.Linear", "refuses its arguments"),
        ("torch.optim.os.system", "cannot be imported"),
    ],
)
def test_the_config_of_a_run_runs_no_code(target, says):
    with pytest.raises(UserError, match=re.escape(says)):
        build({"model": [{"_target_": target, "path": "x"}]})


def test_a_regression_predicts_values(compose_config, tmp_path):
    cfg = compose_config(tmp_path, "model=r2d2", "objective=regression")
    folder, _ = untrained(cfg)
    x = torch.rand(12, 1, 16, 16)
    y = x.mean(dim=(1, 2, 3))
    learner = FewShotLearner.from_run(folder, trust=TRUST).fit(x[:8], y[:8])
    assert learner.predict(x).shape == (12,)
    assert learner.score(x[:8], y[:8].numpy()) > learner.score(x[:8], y[:8].numpy()[::-1].copy())
    assert learner.adapt()(x).shape == (12, 1)
    with pytest.raises(UserError, match="a regression has no probabilities"):
        learner.predict_proba(x)


@pytest.mark.parametrize("model", ["maml", "r2d2"])
def test_values_of_a_function_equal_those_of_an_evaluation_to_the_bit(compose_config, tmp_path, model):
    cfg = compose_config(tmp_path, f"model={model}", *ON_WAVES)
    folder, evaluated = untrained(cfg)
    rows, scaled = tasks_of(cfg, count=1)
    learner = FewShotLearner.from_run(folder, transductive=True).fit(rows.support_x[0], rows.support_y[0])
    expected = evaluated.evaluate(scaled)[0, -1].detach()
    assert torch.equal(torch.from_numpy(learner.decision_function(rows.query_x[0])), expected)
    assert np.array_equal(learner.predict(rows.query_x[0]), expected[:, 0])


def test_ratings_are_cut_to_their_scale_as_in_an_evaluation(compose_config, tmp_path):
    cfg = compose_config(tmp_path, "model=r2d2", "objective=rating")
    folder, _ = untrained(cfg)
    x = torch.rand(12, 1, 16, 16)
    learner = FewShotLearner.from_run(folder, trust=TRUST).fit(x, torch.linspace(-20, 30, 12))
    outputs = learner.decision_function(x)[:, 0]
    assert outputs.max() > 5
    assert np.array_equal(learner.predict(x), outputs.clip(0.5, 5.0))


def test_values_of_a_function_may_be_small_integers(compose_config, tmp_path):
    folder, _ = untrained(compose_config(tmp_path, "model=maml", *ON_WAVES))
    x = np.arange(10, dtype=np.uint8)[:, None]
    learner = FewShotLearner.from_run(folder).fit(x, x[:, 0])
    assert np.array_equal(learner.predict(x), learner.predict(x.astype(np.float32)))


@pytest.mark.slow
def test_importing_it_is_quick_and_imports_neither_hydra_nor_lightning_nor_tensorboard():
    code = """
import sys, time, torch
begun = time.process_time()
from fewshot import FewShotLearner
print(time.process_time() - begun, *{name.split(".")[0] for name in sys.modules})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, *modules = done.stdout.split()
    assert float(seconds) < 3
    assert not {"hydra", "lightning", "tensorboard", "sklearn", "matplotlib", "torchvision"} & set(modules)
