"""Networks for sentences are trained with an inner loop of each engine, and without one."""

import json

import pytest

from fewshot import FewShotLearner
from fewshot.errors import UserError
from tests.entry import main

WORDS = [
    "red",
    "green",
    "blue",
    "one",
    "two",
    "three",
    "cat",
    "dog",
    "cow",
    "sun",
    "moon",
    "star",
    "tea",
    "milk",
    "wine",
    "car",
    "bus",
    "ship",
]
SHORT = (
    "data=sentences", "data.buckets=512", "data.image_shape=[64]", "data.ways=2", "data.queries=2", "data.eval.queries=2",
    "data.meta_batch_size=2", "data.val_tasks=2", "data.test_tasks=2", "trainer=cpu", "trainer.max_steps=2",
    "trainer.val_check_interval=1", "trainer.log_every_n_steps=1", "seed=0",
)  # fmt: skip
BAG = ("model/backbone=embedding_bag", "model.backbone.width=8")


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    """Nine classes of eight sentences, each with one of two words of its own."""
    path = tmp_path_factory.mktemp("text") / "mine.csv"
    lines = [f"say {WORDS[2 * c + i % 2]} {i},class{c}" for c in range(9) for i in range(8)]
    path.write_text("\n".join(["text,class", *lines]))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        ("embedding_bag", ["model=protonet", "callbacks=default"]),
        ("embedding_bag", ["model=maml", "model.engine=vectorized"]),
        ("word_conv", ["model=maml", "model.engine=functional"]),
        ("word_conv", ["model=maml", "model.engine=learn2learn"]),
        ("word_transformer", ["model=maml", "model.backbone.words=8"]),
        ("word_conv", ["model=r2d2"]),
    ],
)
def test_runs(sentences, tmp_path, backbone, options):
    places = (f"paths.cache_dir={tmp_path / 'cache'}", f"hydra.run.dir={tmp_path / 'run'}")
    given = (f"data.source.file={sentences}", f"model/backbone={backbone}", "model.backbone.width=8")
    done = main("train.py", *options, *given, *SHORT, *places)
    assert done.code == 0, done.err
    protocol = json.loads((tmp_path / "run/results.json").read_text())["protocol"]
    assert (protocol["data"], protocol["image_shape"], protocol["splits_classes"]["test"]) == ("sentences-mine", [64], 2)


@pytest.mark.slow
def test_sentences_are_told_apart_by_what_was_trained(sentences, tmp_path):
    """A sentence that is in the support set is its own class's; its row is the one of the dataset.

    Vectors from a file are the run's own by then, also where it is evaluated or goes on.
    """
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("".join(f"{word} {' '.join(map(str, range(i, i + 8)))}\n" for i, word in enumerate(("red", "bill"))))
    places = (f"paths.cache_dir={tmp_path / 'cache'}", f"hydra.run.dir={tmp_path / 'run'}")
    given = (f"data.source.file={sentences}", "model=protonet", *BAG, f"model.backbone.vectors={vectors}")
    assert main("train.py", *given, "model.backbone.vocabulary=9", *SHORT, *places).code == 0
    vectors.unlink()
    learner = FewShotLearner.from_run(tmp_path / "run").fit(["pay my bill", "book a flight"], ["pay", "travel"])
    assert learner.predict(["book a flight", "Pay my bill"]).tolist() == ["travel", "pay"]
    with pytest.raises(UserError, match="is no sentence"):
        learner.predict([" "])
    evaluation = main("eval.py", f"run={tmp_path / 'run'}", places[0], f"hydra.run.dir={tmp_path / 'evaluation'}")
    assert evaluation.code == 0, evaluation.err
    again = main("train.py", *given, "model.backbone.vocabulary=9", *SHORT, *places, "trainer.max_steps=3", "resume=true")
    assert again.code == 0, again.err
    assert json.loads((tmp_path / "run/results.json").read_text())["protocol"]["train"]["steps"] == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["model/backbone=conv4"], "Conv4 takes images"),
        ([*BAG, "+data.mean=[0.5]"], "data.mean is for images"),
        ([*BAG, "data.augment=[{_target_: torchvision.transforms.v2.RandomHorizontalFlip}]"], "data.augment is for images"),
    ],
)
def test_what_is_for_images_is_refused(sentences, tmp_path, options, words):
    given = (f"data.source.file={sentences}", f"hydra.run.dir={tmp_path / 'run'}")
    done = main("train.py", *SHORT, *given, *options)
    assert done.code == 2
    assert words in done.err
    assert len(done.err.strip().splitlines()) <= 2
