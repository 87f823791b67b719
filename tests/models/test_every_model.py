"""Any model takes any experiment: all pairs compose, and each model trains two steps and is tested on a stand-in."""

import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from fewshot.errors import UserError
from fewshot.runtime.train import train
from tests.entry import CONFIG_DIR, TINY, main
from tests.experiments import SENTENCES, stand_in
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
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_pair_composes(experiment):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        plain = compose("train", [f"experiment={experiment}", "paths.output_dir=x", "seed=0"])
        for model in MODELS:
            overrides = [f"experiment={experiment}", f"model={model}", "paths.output_dir=x", "seed=0"]
            cfg = OmegaConf.to_container(compose("train", overrides), resolve=True)
            assert cfg["data"]["eval"] == plain.data.eval, "a model's recipe leaves the tested tasks alone"
            train, source = cfg["data"]["train"], cfg["data"].get("source")
            if source is not None and cfg["objective"]["monitor"] == "acc":
                assert train["shots"] + train["queries"] <= IMAGES_OF_A_CLASS[source["_target_"].split(".")[-2]]


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_every_model_learns_images_and_can_be_seen_or_is_refused(compose_config, tmp_path, model):
    cfg = compose_config(tmp_path, f"model={model}", *SHORT, *SEEN)
    if model in NOT_OF_IMAGES:
        with pytest.raises(
            UserError, match="does not (take images,|learn it;) .*: " + ", ".join(sorted({*MODELS} - NOT_OF_IMAGES)) + "$"
        ):
            train(cfg)
        return
    metrics = train(cfg)
    assert 0 <= metrics["test/acc"] <= 1
    assert model in WITHOUT_STEPS or {"val/tasks", "val/worst_tasks"} <= set(pictures(read(tmp_path / "run")))
    protocol = json.loads((tmp_path / "run/results.json").read_text())["protocol"]
    assert protocol["parameters"] > 0
    assert protocol["forward_multiply_adds"] > 0
    assert isinstance(protocol["transductive"], bool)
    assert isinstance(protocol["adapt"], list)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_every_model_regresses_or_is_refused(compose_config, tmp_path, model):
    """Those that cannot are refused in a line that names those that can."""
    cfg = compose_config(tmp_path, f"model={model}", *SHORT, "seed=0", experiment="sinusoid_10shot")
    if model in REGRESSING:
        assert train(cfg)["test/mse"] > 0
        assert (tmp_path / "run/tasks.png").is_file()
    else:
        with pytest.raises(UserError, match="does not (take vectors,|learn it;) .*: " + ", ".join(sorted(REGRESSING)) + "$"):
            train(cfg)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_every_model_learns_text_or_is_refused(compose_config, tmp_path, model):
    narrow = ("model.backbone.width=4", "calibration_tasks=0", "seed=0", "callbacks=minimal", "data.meta_batch_size=2")
    cfg = compose_config(tmp_path, f"model={model}", *SENTENCES, *SHORT, *narrow, experiment="clinc150_5w1s")
    if model not in NOT_OF_TEXT:
        assert 0 <= train(cfg)["test/acc"] <= 1
    else:
        with pytest.raises(
            UserError, match="does not (take text,|learn it;) .*: " + ", ".join(sorted({*MODELS} - NOT_OF_TEXT)) + "$"
        ):
            train(cfg)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_every_model_rates_or_is_refused(compose_config, tmp_path, model):
    """A user is a task; all but ten of his ratings are given, so that tasks are of several sizes."""
    overrides = (f"model={model}", *stand_in("movielens_cold_start"), *SHORT, "seed=0", "data.meta_batch_size=2")
    cfg = compose_config(tmp_path, *overrides, experiment="movielens_cold_start")
    if model not in REGRESSING | OF_RATINGS:
        with pytest.raises(UserError, match="objective=regression but .*: " + ", ".join(sorted(REGRESSING | OF_RATINGS)) + "$"):
            train(cfg)
        return
    metrics = train(cfg)
    assert 0 < metrics["test/mae"] < 4.5
    assert 0 < metrics["test/ndcg5"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("model", ["protonet", "simpleshot"])
def test_a_run_is_evaluated_on_other_tasks_than_it_was_trained_on(tmp_path, model):
    places = (f"paths.cache_dir={tmp_path / 'cache'}", f"hydra.run.dir={tmp_path / 'run'}")
    assert main("train.py", *TINY, f"model={model}", *SHORT, *places).code == 0
    others = ("data.eval.ways=7", "data.eval.shots=3", "model.batch_norm=transductive",
              "data/source@data.test.unknown=toy", "data.eval.unknown_ways=2")  # fmt: skip
    done = main("eval.py", CONFIG_DIR, f"run={tmp_path / 'run'}", *others, f"hydra.run.dir={tmp_path / 'eval'}")
    assert done.code == 0, done.err
    results = json.loads((tmp_path / "eval/results.json").read_text())
    protocol = results["protocol"]
    assert protocol["unknown_source"] == "toy"
    assert 0 <= results["metrics"]["test/unknown_auroc_distance"] <= 1
    assert (protocol["ways"], protocol["shots"], protocol["transductive"]) == (7, 3, True)
    trained = json.loads((tmp_path / "run/results.json").read_text())["protocol"]["train"]
    assert {key: protocol["train"][key] for key in ("ways", "shots", "queries")} == {
        key: trained[key] for key in ("ways", "shots", "queries")
    }
