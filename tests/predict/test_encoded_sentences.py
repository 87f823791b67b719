"""A run on the features of a frozen sentence encoder, from a file of sentences to predictions, by the commands."""

import csv
import json
import re
import shutil

import pytest

from fewshot import FewShotLearner
from fewshot.backbones.encoder_files import Encoder
from fewshot.errors import UserError
from tests.encoders import WIDTH, needs_encoders, write_encoder
from tests.entry import CONFIG_DIR, main

pytestmark = [pytest.mark.slow, needs_encoders]
SUPPORT = {"pay my bill": "pay", "pay my 1 bill": "pay", "book a flight": "travel", "book a 2 flight": "travel"}
SHORT = (
    CONFIG_DIR, "data=toy_sentences", "data.ways=2", "data.queries=2", "data.eval.queries=2", "data.val_tasks=2",
    "data.test_tasks=2", "data.meta_batch_size=2", "trainer=cpu", "trainer.max_steps=2", "trainer.val_check_interval=1",
    "seed=0", "calibration_tasks=2", "model/backbone=sentence_encoder",
)  # fmt: skip


@pytest.fixture
def encoder(tmp_path):
    return write_encoder(tmp_path / "encoder")


def train(tmp_path, encoder, *options, run="run"):
    places = (f"paths.cache_dir={tmp_path / 'cache'}", f"hydra.run.dir={tmp_path / run}", f"model.backbone.name={encoder}")
    done = main("train.py", *SHORT, *(options or ["model=ridge"]), *places)
    assert done.code == 0, done.err
    return tmp_path / run


def encoded(tmp_path):
    """The parts that files of features were written for."""
    return sorted(path.parent.name for path in (tmp_path / "cache").rglob("features-*.npy"))


def predict(tmp_path, run):
    for name, rows in (("support", SUPPORT.items()), ("query", [("book my flight", ""), ("pay a bill", "")])):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("text", "class"), *rows])
    files = [f"{key}={tmp_path / key}.csv" for key in ("support", "query", "out")]
    return main("predict.py", f"run={run}", *files, "trust=[tests]", f"hydra.run.dir={tmp_path / 'log'}")


def test_sentences_are_encoded_once_and_predicted_by_a_run(tmp_path, encoder, monkeypatch):
    run = train(tmp_path, encoder)
    protocol = json.loads((run / "results.json").read_text())["protocol"]
    assert protocol["model"] == "RidgeClassifier"
    assert re.fullmatch(rf"SentenceEncoder {encoder.name} \([0-9a-f]{{8}}\)", protocol["backbone"])
    assert encoded(tmp_path) == ["test", "val"]  # nothing is learned from the training part

    encode, sentences = Encoder.encode, []

    def counted(self, found, *rest, **more):
        sentences.extend(found)
        return encode(self, found, *rest, **more)

    monkeypatch.setattr(Encoder, "encode", counted)
    train(tmp_path, encoder, "model=protonet", run="second")
    assert not sentences
    train(tmp_path, encoder, "model=anil", run="third")
    assert encoded(tmp_path) == ["test", "train", "val"]
    sentences.clear()

    done = predict(tmp_path, run)
    assert done.code == 0, done.err
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [row["text"] for row in rows] == ["book my flight", "pay a bill"]
    assert set(sentences) == {*SUPPORT, "book my flight", "pay a bill"}

    learner = FewShotLearner.from_run(run, trust=["tests"]).fit(list(SUPPORT), list(SUPPORT.values()))
    assert learner.predict(list(SUPPORT)).tolist() == list(SUPPORT.values())
    assert learner.n_features_in_ == WIDTH
    assert [float(row["prob"]) for row in rows] == pytest.approx(
        learner.predict_proba(["book my flight", "pay a bill"]).max(axis=1), abs=1e-6
    )
    vectors = learner.rows(["pay a bill"])
    assert learner.decision_function(vectors).tolist() == learner.decision_function(["pay a bill"]).tolist()
    assert learner.adapt()(vectors).shape == (1, 2)
    learner.save(tmp_path / "saved")
    again = FewShotLearner.load(tmp_path / "saved", trust=["tests"])
    assert again.decision_function(["pay a bill"]).tolist() == learner.decision_function(["pay a bill"]).tolist()
    with pytest.raises(UserError, match="is no sentence"):
        learner.predict([" "])

    files = [f"support={tmp_path / 'support.csv'}", f"out={tmp_path / 'model.pt2'}", f"hydra.run.dir={tmp_path / 'export'}"]
    done = main("export.py", f"run={run}", *files, "trust=[tests]")
    assert done.code == 0, done.err


def test_another_encoder_of_the_name_has_other_features_and_none_of_the_runs(tmp_path, encoder):
    run = train(tmp_path, encoder)
    shutil.copy(write_encoder(tmp_path / "other", seed=1) / "model.safetensors", encoder)
    done = predict(tmp_path, run)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert f"model.backbone.name={encoder} is another encoder than the one that the checkpoint was made with" in done.err
    train(tmp_path, encoder, run="second")
    assert encoded(tmp_path) == ["test", "test", "val", "val"]
    shutil.rmtree(encoder)
    done = predict(tmp_path, run)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert f"model.backbone.name={encoder} is no folder" in done.err


def test_an_encoder_that_is_not_to_be_had_ends_a_run_before_anything_is_prepared(tmp_path):
    places = (f"paths.cache_dir={tmp_path / 'cache'}", f"hydra.run.dir={tmp_path / 'run'}")
    done = main("train.py", *SHORT, "model=ridge", f"model.backbone.name={tmp_path / 'nowhere'}", *places)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert f"model.backbone.name={tmp_path / 'nowhere'} is no folder" in done.err
    assert not (tmp_path / "cache").exists()
