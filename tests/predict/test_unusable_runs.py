"""Runs that nothing can be predicted with, or not by this version: one line with the remedy, and nothing is written."""

from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from fewshot import FewShotLearner
from tests.predict.test_command import predict, write_image
from tests.predict.test_learner import TRUST
from tests.runs import tasks_of, untrained


@pytest.fixture
def run(compose_config, tmp_path):
    return Path(untrained(compose_config(tmp_path, "model=protonet"))[0])


def without_checkpoint(folder):
    (folder / "checkpoints/best.ckpt").unlink()


def interrupted(folder):
    (folder / "checkpoints/best.ckpt").rename(folder / "checkpoints/last.ckpt")


def torn(folder):
    path = folder / "checkpoints/best.ckpt"
    path.write_bytes(path.read_bytes()[:-200])


def hostile(folder):
    torch.save({"state_dict": {}, "x": print}, folder / "checkpoints/best.ckpt")


def with_checkpoint(folder, change):
    path = folder / "checkpoints/best.ckpt"
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def of_a_later_version(folder):
    with_checkpoint(folder, lambda content: content["fewshot"].update(schema=99))


def of_nobody(folder):
    with_checkpoint(folder, lambda content: content.pop("fewshot"))


def with_a_weight_less(folder):
    with_checkpoint(folder, lambda content: content["state_dict"].popitem())


def with_config(folder, change):
    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text())
    change(config)
    path.write_text(yaml.safe_dump(config))


def of_a_class_that_is_not_there(folder):
    with_config(folder, lambda config: config["model"].update(_target_="fewshot.models.later.Later"))


def with_a_key_of_a_later_version(folder):
    with_config(folder, lambda config: config["model"].update(later=1))


def of_another_model(folder):
    with_config(folder, lambda config: config["model"]["backbone"].update(filters=7))


def without_config(folder):
    (folder / "config.yaml").unlink()


def half_a_config(folder):
    (folder / "config.yaml").write_text("data: {_target_: [")


def with_half_a_calibration(folder):
    (folder / "calibration.json").write_text('{"temperature": ')


def with_too_large_a_temperature(folder):
    (folder / "calibration.json").write_text('{"temperature": 1' + "0" * 400 + "}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (without_checkpoint, "is missing: the run has not come so far; train it: python train.py hydra.run.dir="),
        (interrupted, "is missing: the run has not come so far; take checkpoint=last"),
        (torn, "is no whole checkpoint of plain data"),
        (hostile, "is no whole checkpoint of plain data"),
        (of_a_later_version, "the checkpoint is not one of this project's (schema 1)"),
        (of_nobody, "the checkpoint is not one of this project's (schema 1)"),
        (with_a_weight_less, "the checkpoint does not hold what it lists; use another"),
        (of_a_class_that_is_not_there, "cannot be imported"),
        (with_a_key_of_a_later_version, "the run is of another version of fewshot: use that one"),
        (of_another_model, "give the backbone and dataset that the checkpoint was trained with"),
        (without_config, "it has no config.yaml; choose one below logs/train/runs"),
        (half_a_config, "cannot be read"),
        (with_half_a_calibration, "calibration.json cannot be read; delete it, or take another run"),
        (with_too_large_a_temperature, "calibration.json cannot be read; delete it, or take another run"),
    ],
)
def test_a_run_that_cannot_be_used_is_refused_in_one_line(run, tmp_path, spoil, says):
    for level in range(2):
        write_image(tmp_path / f"support/{level}/0.png", level)
    spoil(run)
    done = predict(run, tmp_path, f"support={tmp_path / 'support'}", f"query={tmp_path / 'support'}")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert says in done.err
    assert not list(tmp_path.glob("out*"))


def test_the_last_checkpoint_of_an_interrupted_run_predicts(run, tmp_path):
    interrupted(run)
    for level in range(2):
        write_image(tmp_path / f"support/{level}/0.png", level)
    done = predict(run, tmp_path, f"support={tmp_path / 'support'}", f"query={tmp_path / 'support'}", "checkpoint=last")
    assert done.code == 0, done.err


def test_the_data_of_a_run_may_be_gone(compose_config, tmp_path):
    images = tmp_path / "images"
    for name in "abc":
        write_image(images / name / "0.png", 0)
    cfg = compose_config(tmp_path, "model=protonet", "data=folder", f"paths.data_dir={images}")
    folder, _ = untrained(cfg)
    images.rename(tmp_path / "elsewhere")
    learner = FewShotLearner.from_run(folder).fit([Image.new("L", (20, 20), level) for level in (0, 255)], ["a", "b"])
    assert learner.predict([tmp_path / "elsewhere/a/0.png"])[0] in ("a", "b")


def test_a_saved_learner_says_all_that_it_said(compose_config, tmp_path):
    cfg = compose_config(tmp_path, "model=protonet")
    folder, _ = untrained(cfg)
    rows, _ = tasks_of(cfg, count=1)
    learner = FewShotLearner.from_run(folder, trust=TRUST).fit(rows.support_x[0], ["b", "a", "c"])
    learner.save(tmp_path / "saved")
    loaded = FewShotLearner.load(tmp_path / "saved", trust=TRUST)
    said, expected = loaded.say(rows.query_x[0]), learner.say(rows.query_x[0])
    assert (said.probabilities == expected.probabilities).all()
    assert (said.nearest == expected.nearest).all()
