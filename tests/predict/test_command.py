"""predict.py as it is typed: what it writes, what it says first, and what it refuses in one line."""

import csv
import json
import os
import runpy

import numpy as np
import pytest
from PIL import Image

from fewshot import FewShotLearner
from fewshot.predict.examples import read_queries, read_support
from tests.data.fakes import refusal
from tests.entry import ROOT, main
from tests.runs import untrained

SIDE = 16


@pytest.fixture(scope="module")
def run(compose_config, tmp_path_factory):
    """The folder of an untrained run that compares images."""
    cfg = compose_config(
        tmp_path_factory.mktemp("run"), "model=protonet", "model.batch_norm=inductive", "model.backbone.filters=16"
    )
    return untrained(cfg, spoilt=0)[0]


def write_image(path, level, noise=0, size=(SIDE, SIDE), mode="L"):
    """A drawing: a bright bar at a place that tells its class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(noise).integers(0, 60, (SIDE, SIDE)).astype(np.uint8)
    pixels[:, 4 * level : 4 * level + 4] += 190
    Image.fromarray(pixels).resize(size).convert(mode).save(path)


@pytest.fixture
def support(tmp_path):
    """Three classes of three images; names in other scripts."""
    for level, name in enumerate(["дом", "空", "b c"]):
        for number in range(3):
            write_image(tmp_path / "support" / name / f"{number}.png", level, noise=number)
    return tmp_path / "support"


def predictions(tmp_path):
    return list(csv.DictReader((tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()))


def predict(run, tmp_path, *overrides):
    places = (f"hydra.run.dir={tmp_path / 'log'}", f"out={tmp_path / 'out.csv'}", "trust=[tests]")
    return main("predict.py", f"run={run}", *places, *overrides)


def test_queries_of_any_kind_are_named(run, tmp_path, support):
    for level in range(3):
        write_image(tmp_path / "query" / f"{level}.png", level, noise=10 + level)
    write_image(tmp_path / "query/large.jpg", 1, noise=20, size=(90, 60), mode="RGB")
    (tmp_path / "query/photo.heic").write_bytes(b"of a telephone")
    write_image(tmp_path / "query/.thumbnails/0.png", 0)
    write_image(support / "beside.png", 0)
    write_image(support / "дом/deeper/0.png", 1)
    done = predict(run, tmp_path, f"support={support}", f"query={tmp_path / 'query'}")
    assert done.code == 0, done.err
    assert "Expect 100.0 % accuracy (leave-one-out over the support set: 9 of 9 right" in done.out
    assert f"Queries: 1 of 5 files of {tmp_path / 'query'} are no images, and skipped" in done.out
    assert "3 examples of each; skipped: 2 files or folders that are no images of a class" in done.out
    rows = predictions(tmp_path)
    assert list(rows[0]) == ["filename", "label", "prob", "label_2", "prob_2", "known", "score"]
    assert [row["label"] for row in rows] == ["дом", "空", "b c", "空"]
    assert all(float(row["prob"]) > float(row["prob_2"]) > 0 for row in rows)
    assert {row["known"] for row in rows} == {""}
    with Image.open(tmp_path / "out.png") as sheet:
        assert sheet.size[0] > 500


def test_what_is_unknown_goes_by_the_threshold_of_the_run(run, tmp_path, support, compose_config):
    """And by outputs as they were when it was found: a temperature that makes all probabilities equal changes nothing."""
    folder = untrained(compose_config(tmp_path, "model=protonet"))[0]
    scores = {"probability": {"thresholds": {"0.05": 0.34}}, "energy": {"thresholds": {"0.05": 1e9}}}
    content = {"schema": 1, "temperature": 1e6, "unknown": {"score": "energy", "scores": scores}}
    (tmp_path / "run/calibration.json").write_text(json.dumps(content))
    write_image(tmp_path / "one.png", 0)
    arguments = (f"support={support}", f"query={tmp_path / 'one.png'}", "leave_one_out=false", "sheet=false")
    for overrides, known in ((), "false"), (("score=probability",), "true"):
        assert predict(folder, tmp_path, *arguments, *overrides).code == 0
        assert predictions(tmp_path)[0]["known"] == known
        assert predictions(tmp_path)[0]["prob"].startswith("0.333")
    assert not (tmp_path / "out.png").exists()


def test_chance_is_called_so(run, tmp_path):
    for name in ("a", "b"):
        for level in range(2):  # the rest of its own class always looks otherwise
            write_image(tmp_path / "support" / name / f"{level}.png", level, noise=10 * level + ord(name))
    done = predict(run, tmp_path, f"support={tmp_path / 'support'}")
    assert done.code == 0, done.err
    assert "That is not told from chance, 50 %" in done.out
    assert not (tmp_path / "out.csv").exists()


def spoil(support, what):
    if what == "one class":
        for name in ("空", "b c"):
            (support / name).rename(support.parent / name)
    elif what == "empty":
        (support / "empty").mkdir()
    elif what == "unreadable":
        (support / "b c/3.png").write_bytes(b"no image")
    elif what == "copies":
        with Image.open(support / "空/0.png") as image:
            image.save(support / "b c/3.bmp")  # another file with the same image
    elif what == "many":
        for number in range(2001):
            (support / "b c" / f"{number:05d}.png").touch()
    elif what == "flat":
        for name in ("дом", "空", "b c"):
            (support / name).rename(support.parent / name)
        write_image(support / "x.png", 0)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("one class", "has one class, дом; put examples of two classes"),
        ("empty", "class empty has no images; put one into"),
        ("unreadable", "3.png cannot be decoded"),
        ("copies", "are the same; keep one of them"),
        ("many", "examples, and a learner takes 2,000 at the most; set shots=N"),
        ("flat", "has no folders; put the examples of each class into a folder"),
    ],
)
def test_a_bad_support_folder_is_refused_in_one_line(run, tmp_path, support, what, says):
    spoil(support, what)
    done = predict(run, tmp_path, f"support={support}", f"query={support}")
    assert done.code == 2
    assert says in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "out.csv").exists()


def test_names_that_nothing_can_write_are_refused_in_one_line(tmp_path):
    for name in ("support/a/1.png", "support/b/2.png", "query/3.png"):
        write_image(tmp_path / name, 0)
    (tmp_path / "support/b").rename(tmp_path / "support" / os.fsdecode(b"\xe9"))
    (tmp_path / "query/3.png").rename(tmp_path / "query" / os.fsdecode(b"\xff.png"))
    for read, name in ((read_support, "support/\\xe9/2.png"), (read_queries, "query/\\xff.png")):
        key = name.partition("/")[0]
        assert refusal(read, str(tmp_path / key)) == f"{key}: {tmp_path / name} is no UTF-8; rename it"


def test_nothing_that_was_given_is_written_over(run, tmp_path, support):
    write_image(tmp_path / "out.png", 0)
    drawn = (tmp_path / "out.png").read_bytes()
    for query, out, says in (
        (tmp_path / "out.png", "out.csv", "out.png is given to be read, and would be written over"),
        (support, "out.png", "out.png has the name of the picture"),
        (support, "support/空/0.csv", "0.png is given to be read"),
    ):
        done = predict(run, tmp_path, f"support={support}", f"query={query}", f"out={tmp_path / out}")
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert says in done.err
    assert (tmp_path / "out.png").read_bytes() == drawn
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["run=nowhere"], "run=nowhere is no run's folder"),
        (["checkpoint=lats"], "checkpoint=lats is unknown"),
        (["checkpoint=last"], "last.ckpt is missing: the run has not come so far; take checkpoint=best"),
        (["shots=0"], "shots=0 must be a whole number of at least 1"),
        (["modle=x"], "modle is no key"),
        (["trust=[]"], "names _target_=tests.toy.Toy, which is no part of fewshot; where you trust it, pass trust=[tests]"),
        (["query=nowhere"], "query=nowhere is missing"),
        (["query=pyproject.toml"], "query=pyproject.toml is no image; give a folder of images (unpack an archive)"),
        (["support=pyproject.toml"], "support=pyproject.toml is no folder (unpack an archive); give a folder with"),
        (["score=energy"], "has no thresholds for unknown classes"),
        (["device=gpu"], "device=gpu is none of this machine"),
    ],
)
def test_a_mistake_is_refused_in_one_line(run, tmp_path, support, overrides, says):
    done = predict(run, tmp_path, f"support={support}", f"query={support}", *overrides)
    assert done.code == 2
    assert says in done.err
    assert "Expect" not in done.out  # which takes long
    assert not (tmp_path / "out.csv").exists()


def test_an_unreadable_query_leaves_nothing(run, tmp_path, support):
    write_image(tmp_path / "query/0.png", 0)
    (tmp_path / "query/1.png").write_bytes(b"no image")
    done = predict(run, tmp_path, f"support={support}", f"query={tmp_path / 'query'}")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "1.png cannot be decoded" in done.err
    assert not list(tmp_path.glob("out*"))


@pytest.mark.slow
def test_a_support_set_of_10000_files_is_refused_at_once_and_taken_in_part(run, tmp_path, support):
    for number in range(3, 10_003):
        (support / "b c" / f"{number:05d}.png").touch()
    done = predict(run, tmp_path, f"support={support}", f"query={support / '空'}")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "has 10,009 examples, and a learner takes 2,000 at the most; set shots=N" in done.err
    done = predict(run, tmp_path, f"support={support}", f"query={support / '空'}", "shots=1")  # the first of each class
    assert done.code == 0, done.err
    assert "Support set: 3 classes, 1 example of each" in done.out


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK", "I;16", "F"])
def test_a_query_of_any_size_and_mode_is_taken(compose_config, tmp_path, support, mode):
    folder, _ = untrained(compose_config(tmp_path, "model=protonet", "data=glyphs"))
    pixels = np.full((50, 77), 255, np.uint8)
    pixels[10:40, 20:40] = 0
    other = {"I;16": pixels.astype(np.uint16) * 257, "F": np.float32(pixels / 255)}  # 16 bits; numbers from 0 to 1
    image = Image.fromarray(other[mode]) if mode in other else Image.fromarray(pixels).convert(mode)
    suffix = {"CMYK": "jpg", "F": "tiff"}.get(mode, "png")
    image.save(tmp_path / f"query.{suffix}")
    done = predict(folder, tmp_path, f"support={support}", f"query={tmp_path / f'query.{suffix}'}", "leave_one_out=false")
    assert done.code == 0, done.err
    assert len(predictions(tmp_path)) == 1


def test_an_image_of_a_csv_file_that_is_missing_is_named(run, tmp_path):
    (tmp_path / "support.csv").write_text("filename,label\nhi.png,a\nho.png,b\n")
    done = predict(run, tmp_path, f"support={tmp_path / 'support.csv'}")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "cannot be read" in done.err


def test_labels_of_a_csv_are_names_and_no_paths(run, tmp_path, support):
    lines = [
        "filename,label",
        *(f"{path.relative_to(tmp_path)},../{path.parent.name}" for path in sorted(support.rglob("*.png"))),
    ]
    (tmp_path / "support.csv").write_text("\n".join(lines), encoding="utf-8")
    done = predict(run, tmp_path, f"support={tmp_path / 'support.csv'}", f"query={support}")
    assert done.code == 0, done.err
    rows = predictions(tmp_path)
    assert {row["label"] for row in rows} == {"../дом", "../空", "../b c"}


def test_omniglots_one_shot_runs_are_scored(run, tmp_path):
    """A folder as Lake et al. 2015 have it, by the script of the tutorial."""
    for level in range(3):
        write_image(tmp_path / f"run01/training/class{level}.png", level)
        write_image(tmp_path / f"run01/test/item{level}.png", level)
    score = runpy.run_path(str(ROOT / "docs/tutorials/omniglot_runs.py"))["score"]
    learner = FewShotLearner.from_run(run, trust=("tests",))
    for shift, accuracy in (0, 1), (1, 0):
        lines = [f"run01/test/item{level}.png run01/training/class{(level + shift) % 3}.png" for level in range(3)]
        (tmp_path / "run01/class_labels.txt").write_text("\n".join(lines) + "\n")
        assert score(learner, tmp_path, "run01") == accuracy
