"""Every key has a type, every file is read to its last key, and what does not fit takes one line."""

from functools import cache

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from fewshot.errors import UserError
from fewshot.runtime.build import build_data, build_model, build_trainer, check_optimizer
from fewshot.runtime.cli import explain
from fewshot.runtime.config_check import check_config
from fewshot.runtime.config_groups import CONFIGS, ConfigFile, choices
from fewshot.runtime.signatures import signature
from tests.entry import CONFIG_DIR, TINY, main


@cache
def composed(*overrides):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", [*overrides, "paths.output_dir=/nowhere", "paths.root_dir=/nowhere", "seed=0"])


def keys(node, prefix=""):
    for name in node:
        yield f"{prefix}{name}"
        if isinstance(inner := node._get_node(name), DictConfig) and not inner._is_interpolation() and not inner._is_none():
            yield from keys(inner, f"{prefix}{name}.")


def in_one_line(cfg):
    """Whether a config is refused in one line; a crash is raised, and what is accepted can be built."""
    try:
        check_config(cfg)
        build_data(cfg)
        with torch.device("meta"):
            model = build_model(cfg)
        check_optimizer(model, cfg.trainer.max_steps)
        build_trainer(cfg)
    except Exception as error:
        message = explain(error, "train")
        if message is None:
            raise
        return message
    return None


@pytest.mark.slow
def test_what_an_experiment_file_says_holds(tmp_path):
    """Over the recipe of any model, which holds over MAML's numbers, which no run has a key for."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(
        "# @package _global_\ndefaults: [omniglot_20w1s]\ndata: {meta_batch_size: 4, queries: 7}\nmodel: {inner: {lr: 0.123}}\n"
    )
    searched = f"hydra.searchpath=[file://{tmp_path}]"
    for model in ("maml", "mamlpp", "imaml", "cavia"):
        mine, theirs = (
            composed(searched, "experiment=mine", f"model={model}"),
            composed("experiment=omniglot_20w1s", f"model={model}"),
        )
        for cfg in (mine, theirs):
            check_config(cfg)
            assert "maml" not in cfg
            assert "${maml" not in OmegaConf.to_yaml(cfg)
        assert (mine.data.meta_batch_size, mine.data.queries, mine.model.inner.lr) == (4, 7, 0.123)
        sizes = {"maml": (16, 2.0, 5), "mamlpp": (8, 0.1, 5), "imaml": (32, 0.1, 16), "cavia": (16, 1.0, 2)}
        assert (theirs.data.meta_batch_size, theirs.model.inner.lr, theirs.model.inner.steps) == sizes[model]
        typed = composed(searched, "experiment=mine", f"model={model}", "model.inner.lr=0.5", "debug=limit")
        assert (typed.model.inner.lr, typed.data.val_tasks) == (0.5, 10)


@pytest.mark.slow
@pytest.mark.parametrize("turn", [0, *(pytest.param(turn, marks=pytest.mark.proof) for turn in (1, 2))])
def test_no_value_of_any_key_ends_in_a_traceback(turn):
    """The kind: 26 keys did. Keys are given nothing, a word and a list in turn; what is accepted is built."""
    base, refused = composed("model=mamlpp", "trainer=cpu"), []
    for number, key in enumerate(keys(base), start=turn):
        value = (None, "text", [1])[number % 3]
        cfg = OmegaConf.create(OmegaConf.to_container(base))
        OmegaConf.update(cfg, key, value, force_add=True, merge=False)
        message = in_one_line(cfg)
        if message is not None:
            refused.append(key)
            assert "\n" not in message
    assert len(refused) > 100
    assert {"data.ways", "data.eval", "model.backbone._target_", "trainer.max_steps", "test"} <= set(refused)


@pytest.mark.parametrize("value", ["no", "off", "yes", 1, 0, None, [True]])
@pytest.mark.parametrize("key", ["test", "resume", "val_at_start", "model.inner.first_order", "trainer.deterministic"])
def test_only_true_and_false_are_booleans(key, value):
    cfg = OmegaConf.create(OmegaConf.to_container(composed()))
    OmegaConf.update(cfg, key, value, merge=False)
    if (key, value) == ("trainer.deterministic", None):
        return  # which Lightning takes
    with pytest.raises(UserError, match=f"{key}=.* must be true or false"):
        check_config(cfg)


def test_types_are_those_of_the_constructors():
    """Through imports, aliases, base classes and forward references, none of which is executed."""
    adam, maml = signature("torch.optim.Adam"), signature("fewshot.models.maml.MAML")
    assert adam.parameters["lr"].fits(0.1)
    assert not adam.parameters["lr"].fits(None)
    assert not adam.parameters["lr"].fits(True)
    assert adam.parameters["betas"].fits([0.9, 0.99])
    assert not adam.parameters["betas"].fits(["a", "b"])
    assert maml.closed
    assert maml.parameters["on_nonfinite"].fits("skip")  # of the base class
    assert not maml.parameters["optimizer"].fits("adam")  # an alias of Callable[...]
    assert maml.parameters["optimizer"].fits({"_target_": "torch.optim.Adam"})
    assert not signature("lightning.Trainer").parameters["precision"].fits("fp8")
    assert not signature("lightning.pytorch.loggers.WandbLogger").closed  # it takes any keyword
    assert signature("fewshot.nowhere.Nothing") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data:\n  ways: 4\n", "changes nothing as it is; make '# @package _global_' its first line"),
        ("# @package _global_\nmodle:\n  inner: 4\n", "modle is no key of this config; did you mean 'model'?"),
        ("# @package _global_\nmodel:\n  inner:\n    lrr: 4\n", "model.inner.lrr is no key of this config; did you mean"),
        ("# @package _global_\nmodel: maml\n", "model=maml must be keys with a _target_; choose it by"),
        ("# @package _global_\ntest: 'no'\n", "test=no must be true or false"),
        ("# @package _global_\nseed: 1\nseed: 2\n", "line 3: found duplicate key seed"),
        ("# @package _global_\nmodel:\n\tinner: 4\n", "line 3: found character '\\t' that cannot start any token"),
    ],
)
def test_a_file_is_held_to_the_keys_there_are(tmp_path, text, message):
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment/mine.yaml"
    file.write_text(text)
    done = main("train.py", f"--config-dir={tmp_path}", "experiment=mine", f"hydra.run.dir={tmp_path / 'run'}")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert message in done.err
    assert str(file) in done.err or "must be" in message


def test_a_source_of_unknown_queries_is_of_no_use_without_their_number():
    asked = ["experiment=clinc150_5w1s", "data/source@data.test.unknown=clinc150_oos"]
    assert "data.test.unknown is set, but data.eval.unknown_ways=0" in in_one_line(composed(*asked))


NETWORKS = [
    pytest.param(backbone, experiment, marks=[pytest.mark.proof] if (number + place) % 2 else [])
    for number, backbone in enumerate(choices("model/backbone"))
    for place, experiment in enumerate(("glyphs_5w1s", "miniimagenet_5w1s"))
]
"""Each network with one or the other in each test run, with both in the proofs."""


def test_no_experiment_is_for_one_backbone_alone():
    """All pairs follow: an experiment chooses a network, and whatever network is chosen instead is as its file has it."""
    for name in choices("experiment"):
        experiment = ConfigFile(CONFIGS / f"experiment/{name}.yaml", "experiment")
        assert not experiment.has("model.backbone"), name


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "experiment"), NETWORKS)
def test_any_backbone_takes_any_experiment(experiment, backbone):
    if backbone == "timm":
        pytest.importorskip("timm", reason="timm is an extra: make extras")
    more = ["model.backbone.weights=null"] if backbone in ("pretrained", "timm") else []
    message = in_one_line(composed(f"experiment={experiment}", f"model/backbone={backbone}", "trainer=cpu", *more))
    sentences = dict.fromkeys(("embedding_bag", "sentence_encoder", "word_conv", "word_gru", "word_transformer"), "sentences")
    takes = (sentences | {"items": "rated items"}).get(backbone)
    if takes:
        assert f"takes {takes}, but the data, of shape" in message
    else:
        assert message is None or (more and ", which are frozen" in message), message


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_deep_network_takes_a_step(tmp_path):
    small = ["model.backbone.widths=[4,4,4,4]", *(f"data.{key}=2" for key in ("meta_batch_size", "val_tasks", "test_tasks"))]
    folders = [f"hydra.run.dir={tmp_path}", f"paths.cache_dir={tmp_path / 'cache'}"]
    done = main("train.py", CONFIG_DIR, "data=toy", "model/backbone=resnet12", *small, "data.ways=2", "trainer.max_steps=1",
                "data.queries=2", "data.eval.queries=2", "trainer=cpu", "callbacks=minimal", *folders)  # fmt: skip
    assert done.code == 0, done.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.optimizer._target_=torch.optim.LBFGS"], "model.optimizer=LBFGS asks for several gradients in a step"),
        (
            ["+model.scheduler={_target_:torch.optim.lr_scheduler.ReduceLROnPlateau,_partial_:true}"],
            "model.scheduler=ReduceLROnPlateau waits for validations",
        ),
        (
            ["+model.scheduler={_target_:torch.optim.lr_scheduler.OneCycleLR,_partial_:true,max_lr:0.1,total_steps:5}"],
            "model.scheduler.total_steps=5 ends before trainer.max_steps=6",
        ),
        (["model.optimizer.lr=-1"], "Invalid learning rate: -1"),
        (["callbacks.best.monitor=val/accuracy"], "monitor=val/accuracy; did you mean 'val/acc'?"),
        (["logger=mlflow", "logger.mlflow.tracking_uri=http://127.0.0.1:9"], "tracking_uri=http://127.0.0.1:9 does not answer"),
    ],
)
def test_what_only_building_finds(tmp_path, monkeypatch, overrides, message):
    monkeypatch.setattr("fewshot.runtime.build_logger.find_spec", lambda name: name)  # whether the extra is installed or not
    done = main("train.py", *TINY, *overrides, f"hydra.run.dir={tmp_path / 'run'}", f"paths.cache_dir={tmp_path / 'cache'}")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert message in done.err


def test_the_progress_bar_can_be_turned_off():
    trainer = build_trainer(composed("trainer=cpu", "trainer.enable_progress_bar=false"))
    assert trainer.progress_bar_callback is None
