"""Starting from another run's weights: the same bits, another head, another dataset; mistakes in one line."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from fewshot.errors import UserError
from fewshot.runtime.build import build_model
from fewshot.runtime.initial_weights import InitialWeights
from fewshot.runtime.train import train
from tests.entry import TINY, main
from tests.runs import untrained


@pytest.fixture(scope="module")
def source(tmp_path_factory, compose_config):
    """A run's folder and its model, whose weights no seed draws."""
    cfg = compose_config(tmp_path_factory.mktemp("source"))
    content_lacks = {"optimizer_states": [], "lr_schedulers": [], "callbacks": {}, "global_step": 6}
    folder, model = untrained(cfg)
    path = f"{folder}/checkpoints/best.ckpt"
    torch.save(torch.load(path, weights_only=True) | content_lacks, path)
    return folder, model


def started(cfg, init_from, part):
    initial, model = InitialWeights(), build_model(cfg)
    initial.read(str(init_from))
    initial.load_into(model, part)
    return initial, model.state_dict()


def test_all_weights_are_the_runs_to_the_bit(source, compose_config, tmp_path):
    initial, weights = started(compose_config(tmp_path), source[0], "all")
    expected = source[1].state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    path = Path(source[0]) / "checkpoints/best.ckpt"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert initial.origin == {"checkpoint": str(path), "sha256": digest, "part": "all"}


@pytest.mark.parametrize("change", ["data.ways=5", "model=protonet", "model=metasgd"])
def test_the_backbone_alone_fits_other_heads_and_algorithms(source, compose_config, tmp_path, change):
    cfg = compose_config(tmp_path, change)
    torch.manual_seed(1)
    drawn = build_model(cfg).state_dict()
    torch.manual_seed(1)
    _, weights = started(cfg, source[0], "backbone")
    expected = source[1].state_dict()
    for name, values in weights.items():
        name = name.replace("_backbone.", "network.features.")  # of a model that has a second name for it
        assert torch.equal(values, (expected if name.startswith("network.features.") else drawn)[name]), name
    assert not torch.equal(weights["network.features.blocks.0.0.weight"], drawn["network.features.blocks.0.0.weight"])


@pytest.mark.parametrize(
    ("changes", "part", "message"),
    [
        (
            ["data.ways=5"],
            "all",
            r"has another network: network\.head\.weight \[3, 4\] instead of \[5, 4\], network\.head\.bias \[3\] instead"
            r" of \[5\]; choose the model and ways that it was trained with, or init_part=backbone",
        ),
        (
            ["model.backbone.filters=5"],
            "backbone",
            r"network: network\.features\.blocks\.0\.0\.weight \[4, 1, 3, 3\] instead of \[5, 1, 3, 3\], .* and \d+ more; "
            "choose the model/backbone that it was trained with$",
        ),
        (["model=protonet"], "all", r".*statistics\.mean \(missing\) instead of \[16\]"),
    ],
)
def test_another_network_is_refused_by_its_layers(source, compose_config, tmp_path, changes, part, message):
    with pytest.raises(UserError, match=message):
        started(compose_config(tmp_path, *changes), source[0], part)


def test_a_checkpoint_file_and_a_run_that_never_validated(source, compose_config, tmp_path):
    shutil.copytree(source[0], tmp_path / "copy")
    checkpoints = tmp_path / "copy/checkpoints"
    (checkpoints / "best.ckpt").rename(checkpoints / "last.ckpt")
    for place in (tmp_path / "copy", checkpoints / "last.ckpt"):
        initial, _ = started(compose_config(tmp_path), place, "all")
        assert initial.origin["checkpoint"] == str(checkpoints / "last.ckpt")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["init_from=nowhere"], "nowhere is no checkpoint and no run's folder with one; choose one below logs/train/runs"),
        (["init_from={file}"], "is no whole checkpoint of plain data"),
        (["init_from={file}", "init_part=head"], "init_part=head is unknown; choose one of: all, backbone"),
        (["init_part=backbone"], "init_part=backbone but init_from=null; name the run that has them, as in init_from=RUN"),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, overrides, message):
    (tmp_path / "junk.ckpt").write_bytes(b"junk")
    overrides = [override.format(file=tmp_path / "junk.ckpt") for override in overrides]
    done = main("train.py", *TINY, *overrides, f"hydra.run.dir={tmp_path / 'run'}", f"paths.cache_dir={tmp_path / 'cache'}")
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_run_records_what_it_started_from_and_does_not_read_it_again(source, compose_config, tmp_path, monkeypatch):
    shutil.copytree(source[0], tmp_path / "first")
    monkeypatch.chdir(tmp_path)
    steps = ("trainer.max_steps=2", "init_from=first")
    train(compose_config(tmp_path, *steps))
    (path,) = (tmp_path / "run/checkpoints").glob("last.ckpt")
    record = json.loads((tmp_path / "run/results.json").read_text())["provenance"]["initial_weights"]
    assert record["checkpoint"] == "first/checkpoints/best.ckpt"
    content = torch.load(path, weights_only=True)
    assert content["callbacks"]["InitialWeights"] == record
    shutil.rmtree(tmp_path / "first")
    train(compose_config(tmp_path, "trainer.max_steps=4", "init_from=first", "resume=true"))
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["provenance"]["initial_weights"] == record
    assert results["protocol"]["train"]["steps"] == 4


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_classes_that_the_weights_have_seen_are_not_tested_without_a_word(source, compose_config, tmp_path, capsys):
    path = f"{source[0]}/checkpoints/best.ckpt"
    content = torch.load(path, weights_only=True)
    seen = {"EpisodicDataModule": {"classes": ["test003", "other"], "split": "published", "splits_sha256": {}}}
    torch.save(content | seen, tmp_path / "seen.ckpt")
    start = f"init_from={tmp_path / 'seen.ckpt'}"
    with pytest.raises(UserError, match=r"the checkpoint was trained on 1 of the 10 test classes \(test003\)"):
        train(compose_config(tmp_path, start))
    train(compose_config(tmp_path, start, "allow_seen_classes=true", "trainer.max_steps=1"))
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["protocol"]["seen_classes"] == {"val": 0, "test": 1}
    assert "on classes of which 1 were trained on" in capsys.readouterr().out
    trained = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["EpisodicDataModule"]["classes"]
    assert {"test003", "other", "train000"} <= set(trained)
