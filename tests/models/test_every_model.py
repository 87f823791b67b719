"""Any model takes any experiment that it can learn: configs compose, and each model learns a stand-in of each kind of task."""

import json
import math
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from fewshot.errors import UserError
from fewshot.models.fits_rows import FitsRows
from fewshot.runtime.train import check, train
from tests.entry import CONFIG_DIR, TINY, main
from tests.experiments import SENTENCES, stand_in
from tests.models.model_tester import optimizer_of, outer_step
from tests.runtime.test_plots import SEEN, pictures, read

CONFIGS = Path(__file__).parents[2] / "configs"


def names(group):
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml") if not path.stem.startswith("_"))


MODELS, EXPERIMENTS = names("model"), names("experiment")
REGRESSING = {
    "anil", "boil", "cavia", "fomaml", "imaml", "kfo", "maml", "mamlpp", "metacurvature", "metasgd", "r2d2", "reptile",
}  # fmt: skip
WITHOUT_STEPS = {"logistic", "mahalanobis", "ridge"}
"""Heads on frozen features, which no training shows anything of."""
OF_RATINGS = {"rating_bias", "rating_factors", "rating_mean", "rating_user_mean"}
NOT_OF_IMAGES, NOT_OF_TEXT = (
    {"tfidf_centroid", "tfidf_learned", "tfidf_ridge"} | OF_RATINGS,
    {"cavia", "relationnet"} | OF_RATINGS,
)
FAMILIES = {"baseline", "maml", "protonet"}
"""Models that show each their own pictures; the others inherit theirs."""
RELATIVES = {"anil", "boil", "fomaml", "kfo", "metacurvature", "metasgd"}
"""MAML with other fields: on images the goldens take their steps, and the proofs run them whole."""
KINDS = {
    "regression": ("sinusoid_10shot", REGRESSING, "does not (take vectors,|learn it;)", ()),
    "text": (
        "clinc150_5w1s",
        {*MODELS} - NOT_OF_TEXT,
        "does not (take text,|learn it;)",
        (*SENTENCES, "model.backbone.width=4", "data.meta_batch_size=2"),
    ),
    "ratings": (  # all but ten of a user's ratings are given, so that tasks are of several sizes
        "movielens_cold_start",
        REGRESSING | OF_RATINGS,
        "objective=regression but",
        (*stand_in("movielens_cold_start"), "data.meta_batch_size=2"),
    ),
}
"""Experiment, the models that learn it, what is said of the others, and overrides that make it small."""
REFUSED = {"protonet", "relationnet", "tfidf_ridge", "rating_mean"}
"""Of the others, those that are asked in each test run; the proofs ask all."""
SHORT = ("trainer.max_steps=2", "trainer.val_check_interval=1", "data.val_tasks=2", "data.test_tasks=4")
IMAGES_OF_A_CLASS = {
    "omniglot": 20,
    "glyphs": 20,
    "miniimagenet": 600,
    "quickdraw": 100,
    "folder": 20,
    "intents": 75,
    "relations": 100,
    "chula_rbc12": 261,
    "tieredimagenet": 700,
    "cifar100": 600,
    "cub": 41,
    "aircraft": 100,
    "flowers102": 40,
    "split_folders": 120,
    "fungi": 20,  # smaller classes are left out
}


@pytest.mark.slow
@pytest.mark.parametrize("models", [["baseline"], pytest.param(MODELS, marks=pytest.mark.proof)], ids=["one", "all"])
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_with_any_model(experiment, models):
    """With one that has its own training tasks; the proofs compose all pairs."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        plain = compose("train", [f"experiment={experiment}", "paths.output_dir=x", "seed=0"])
        for model in models:
            overrides = [f"experiment={experiment}", f"model={model}", "paths.output_dir=x", "seed=0"]
            cfg = OmegaConf.to_container(compose("train", overrides), resolve=True)
            assert cfg["data"]["eval"] == plain.data.eval, "a model's recipe leaves the tested tasks alone"
            train, source = cfg["data"]["train"], cfg["data"].get("source")
            if source is not None and cfg["objective"]["monitor"] == "acc":
                assert train["shots"] + train["queries"] <= IMAGES_OF_A_CLASS[source["_target_"].split(".")[-2]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", [pytest.param(model, marks=pytest.mark.proof) if model in RELATIVES else model for model in MODELS]
)
def test_every_model_learns_images_or_is_refused(compose_config, tmp_path, monkeypatch, model):
    """A whole run; of one model of each family, pictures too."""
    if model not in FAMILIES:
        monkeypatch.setattr("fewshot.runtime.report.Report._draw", lambda *_: None)
    few = ["model.iterations=10"] if model == "tim" else []
    cfg = compose_config(tmp_path, f"model={model}", *SHORT, *few, *(SEEN if model in FAMILIES else ()))
    if model in NOT_OF_IMAGES:
        with pytest.raises(
            UserError, match="does not (take images,|learn it;) .*: " + ", ".join(sorted({*MODELS} - NOT_OF_IMAGES)) + "$"
        ):
            train(cfg)
        return
    metrics = train(cfg)
    assert 0 <= metrics["test/acc"] <= 1
    assert model not in FAMILIES or {"val/tasks", "val/worst_tasks"} <= set(pictures(read(tmp_path / "run")))
    protocol = json.loads((tmp_path / "run/results.json").read_text())["protocol"]
    assert protocol["parameters"] > 0
    assert protocol["forward_multiply_adds"] > 0
    assert isinstance(protocol["transductive"], bool)
    assert isinstance(protocol["adapt"], list)


def two_outer_steps_and_an_evaluation(cfg):
    """What a run does, without a trainer: the last outputs of tested tasks."""
    datamodule, model, _ = check(cfg, None)
    datamodule.prepare(["train", "val", "test"])
    datamodule.setup("fit")
    datamodule.setup("test")
    if isinstance(model, FitsRows):
        model.fit_rows(datamodule.rows_of("train"))
    if model.takes_outer_steps:
        optimizer = optimizer_of(model, model._optimizer)
        batches = datamodule.meta_batches("train", 2 * datamodule.meta_batch_size)
        for batch in (batches[0], batches[1]):
            for tasks in datamodule.scaled(batch):
                assert math.isfinite(outer_step(model, optimizer, tasks))
    model.eval()
    with torch.no_grad():
        tested = datamodule.scaled(datamodule.meta_batches("test", 2)[0])
        return torch.cat([model.evaluate(tasks)[:, -1].flatten() for tasks in tested])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "model"),
    [
        (kind, model) if model in {*KINDS[kind][1]} | REFUSED else pytest.param(kind, model, marks=pytest.mark.proof)
        for kind in KINDS
        for model in MODELS
    ],
)
def test_every_model_learns_tasks_of_this_kind_or_is_refused(compose_config, tmp_path, kind, model):
    """Those that cannot are refused in a line that names those that can."""
    experiment, learn, refusal, overrides = KINDS[kind]
    cfg = compose_config(tmp_path, f"model={model}", *overrides, *SHORT, "seed=0", experiment=experiment)
    if model in learn:
        outputs = two_outer_steps_and_an_evaluation(cfg)
        assert outputs.isfinite().all()
        assert outputs.unique().numel() > 1 or model == "rating_mean"
    else:
        with pytest.raises(UserError, match=refusal + " .*: " + ", ".join(sorted(learn)) + "$"):
            check(cfg, None)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["regression", "ratings"])
def test_a_run_of_this_kind_has_its_scores_and_pictures(compose_config, tmp_path, kind):
    experiment, _, _, overrides = KINDS[kind]
    metrics = train(compose_config(tmp_path, "model=maml", *overrides, *SHORT, "seed=0", experiment=experiment))
    if kind == "regression":
        assert metrics["test/mse"] > 0
        assert (tmp_path / "run/tasks.png").is_file()
    else:
        assert 0 < metrics["test/mae"] < 4.5
        assert 0 < metrics["test/ndcg5"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("model", ["protonet", "simpleshot"])
def test_a_run_is_evaluated_on_other_tasks_than_it_was_trained_on(tmp_path, monkeypatch, model):
    monkeypatch.setattr("fewshot.runtime.report.Report._draw", lambda *_: None)
    places = (f"paths.cache_dir={tmp_path / 'cache'}", f"hydra.run.dir={tmp_path / 'run'}")
    assert main("train.py", *TINY, f"model={model}", *SHORT, *places).code == 0
    others = ("data.eval.ways=7", "data.eval.shots=3", "model.batch_norm=transductive",
              "data/source@data.test.unknown=toy", "data.eval.unknown_ways=2")  # fmt: skip
    done = main("eval.py", CONFIG_DIR, f"run={tmp_path / 'run'}", *others, f"hydra.run.dir={tmp_path / 'eval'}")
    assert done.code == 0, done.err
    results = json.loads((tmp_path / "eval/results.json").read_text())
    protocol = results["protocol"]
    assert (protocol["unknown_source"], protocol["unknown_ways"]) == ("toy", 2)
    assert 0 <= results["metrics"]["test/unknown_auroc_distance"] <= 1
    assert (protocol["ways"], protocol["shots"], protocol["transductive"]) == (7, 3, True)
    trained = json.loads((tmp_path / "run/results.json").read_text())["protocol"]["train"]
    assert {key: protocol["train"][key] for key in ("ways", "shots", "queries")} == {
        key: trained[key] for key in ("ways", "shots", "queries")
    }
