"""Runs of older versions: their configs name classes by other places and tasks by other keys."""

from copy import deepcopy

import pytest
import yaml

from fewshot import FewShotLearner
from fewshot.errors import UserError
from fewshot.runtime.old_runs import renewed
from fewshot.runtime.run_folder import _require_same, write_config
from tests.runs import tasks_of, untrained

OLD = yaml.safe_load(
    """
recipe: {inner: {lr: 0.1}}
data:
  _target_: fewshot.data.module.EpisodicDataModule
  ways: 5
  shots: 1
  queries: 10
  train: {_target_: fewshot.data.module.TrainTasks, ways: 20, shots: 1, queries: 5}
  eval:
    {_target_: fewshot.data.module.EvalTasks, ways: "${data.ways}", shots: 1, queries: 15, within_group: true, seed: 3}
  source: {_target_: fewshot.data.omniglot.Omniglot, data_dir: "${paths.data_dir}"}
model: {inner: {lr: "${recipe.inner.lr}"}}
logger: {tensorboard: {_target_: fewshot.runtime.seeing.tensorboard.TensorBoard}}
"""
)


def test_names_and_keys_are_those_of_now():
    before = deepcopy(OLD)
    config = renewed(OLD)
    assert before == OLD
    data = config["data"]
    assert data["_target_"] == "fewshot.data.datamodule.EpisodicDataModule"
    assert data["source"]["_target_"] == "fewshot.data.images.omniglot.Omniglot"
    assert data["split"] == {"_target_": "fewshot.data.splits.Published", "name": None}
    assert {key: data["train"][key] for key in ("ways", "shots", "queries")} == {"ways": 20, "shots": 1, "queries": 5}
    assert (data["eval"]["queries"], data["eval"]["within"], data["eval"]["seed"]) == (15, "alphabet", 3)
    assert data["test"]["ways"] == "${data.eval.ways}"
    assert (config["maml"], config["model"]["inner"]["lr"]) == ({"inner": {"lr": 0.1}}, "${maml.inner.lr}")
    assert config["logger"]["tensorboard"]["_target_"] == "fewshot.runtime.plots.tensorboard.TensorBoard"
    assert (config["tags"], config["init_part"], config["objective"]["_target_"]) == (
        [],
        "all",
        "fewshot.objectives.Classification",
    )
    assert renewed(config) == config


@pytest.mark.parametrize(("backbone", "adapt"), [("WordConv", ["head.*", "features.conv.*"]), ("EmbeddingBag", ["head.*"])])
def test_what_sentences_adapted_is_named_for_each_network(backbone, adapt):
    inner = {"adapt": ["head.*", "features.conv.*", "features.layers.*"]}
    model = {"inner": inner, "backbone": {"_target_": f"fewshot.backbones.words.{backbone}"}}
    config = renewed(OLD | {"model": model})
    assert config["model"]["inner"]["adapt"] == adapt
    assert renewed(config) == config


def test_a_predictor_reads_an_old_run(compose_config, tmp_path):
    cfg = compose_config(tmp_path)
    folder, _ = untrained(cfg)
    path = tmp_path / "run/config.yaml"
    config = yaml.safe_load(path.read_text())
    config["data"] |= {
        "_target_": "fewshot.data.module.EpisodicDataModule",
        "source": {"_target_": "fewshot.data.glyphs.Glyphs"},
    }
    for part in ("train", "val", "test", "split"):
        config["data"].pop(part)
    path.write_text(yaml.safe_dump(config))
    rows, _ = tasks_of(cfg, count=1)
    learner = FewShotLearner.from_run(folder)
    assert learner.predictor.run.source.name == "glyphs"
    learner.predictor.reader = lambda x: x
    assert learner.fit(rows.support_x[0], [0, 1, 2]).predict(rows.query_x[0]).shape == (12,)


def test_an_old_run_goes_on_where_nothing_else_has_changed(compose_config, tmp_path):
    cfg = compose_config(tmp_path, "seed=0")
    write_config(cfg, tmp_path / "run", fresh=True)
    path = tmp_path / "run/composed.yaml"
    config = yaml.safe_load(path.read_text())
    for key in ("name", "tags", "init_part"):
        del config[key]
    for part in ("eval", "val", "test"):
        del config["data"][part]["replacement"]
    config["model"]["inner"] |= {"_target_": "fewshot.inner.inner_loop.InnerLoop", "outer": "unrolled"}
    path.write_text(yaml.safe_dump(config))
    assert _require_same(cfg, tmp_path / "run") == set()
    cfg.model.inner.lr = 0.123
    with pytest.raises(UserError, match=r"another model\.inner\.lr"):
        _require_same(cfg, tmp_path / "run")
