"""Sentences by the commands, as a user has them: csv files in, a csv file out; the page; what is refused in one line."""

import csv

import pytest

from fewshot import FewShotLearner
from fewshot.predict.examples import read_support
from tests.entry import main
from tests.predict.test_command import write_image
from tests.runs import untrained

SUPPORT = {
    "pay my bill": "оплата",
    "i want to pay the bill": "оплата",
    "book a flight": "../travel",
    "book me a flight, please": "../travel",
}
QUERIES = ["please pay this bill", 'a flight, "direct"', "book flights"]


def untrained_on_sentences(compose_config, folder):
    """The folder of an untrained run that compares sentences: n-grams in common are enough."""
    (folder / "mine.csv").write_text("text,class\n")
    overrides = (f"data.source.file={folder / 'mine.csv'}", "data.buckets=512", "data.image_shape=[64]")
    network = ("model=protonet", "model/backbone=embedding_bag", "model.backbone.width=64", "~model.backbone.filters")
    return untrained(compose_config(folder, "data=sentences", *network, *overrides), spoilt=0)[0]


@pytest.fixture(scope="module")
def run(compose_config, tmp_path_factory):
    return untrained_on_sentences(compose_config, tmp_path_factory.mktemp("run"))


@pytest.fixture
def support(tmp_path):
    return write_csv(tmp_path / "support.csv", ["text", "class"], SUPPORT.items())


def write_csv(path, *rows):
    """A csv file of a header and rows."""
    header, *others = rows
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *(others[0] if others else [])])
    return path


def predict(run, tmp_path, *overrides):
    return main("predict.py", f"run={run}", f"out={tmp_path / 'out.csv'}", f"hydra.run.dir={tmp_path / 'log'}", *overrides)


def test_sentences_of_a_csv_file_are_classified_into_one(run, tmp_path, support):
    query = write_csv(tmp_path / "query.csv", ["id", "text"], enumerate(QUERIES))
    done = predict(run, tmp_path, f"support={support}", f"query={query}")
    assert done.code == 0, done.err
    assert "Expect 100.0 % accuracy (leave-one-out over the support set: 4 of 4 right" in done.out
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text("utf-8").splitlines()))
    assert list(rows[0]) == [*["filename", "label", "prob", "label_2", "prob_2", "known", "score"], "text", "nearest"]
    assert [row["filename"] for row in rows] == [f"{query}:{line}" for line in (2, 3, 4)]
    assert [row["label"] for row in rows] == ["оплата", "../travel", "../travel"]
    assert [row["text"] for row in rows] == QUERIES
    assert [SUPPORT[row["nearest"]] for row in rows] == [row["label"] for row in rows]
    assert not (tmp_path / "out.png").exists()
    learner = FewShotLearner.from_run(run).fit(list(SUPPORT), list(SUPPORT.values()))
    assert [float(row["prob"]) for row in rows] == pytest.approx(learner.predict_proba(QUERIES).max(axis=1), abs=1e-6)


def test_a_text_file_has_a_sentence_a_line(run, tmp_path, support):
    (tmp_path / "query.txt").write_text("\n".join(["", *QUERIES]), encoding="utf-8")
    assert predict(run, tmp_path, f"support={support}", f"query={tmp_path / 'query.txt'}", "leave_one_out=false").code == 0
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text("utf-8").splitlines()))
    assert [(row["filename"], row["text"]) for row in rows] == [
        (f"{tmp_path / 'query.txt'}:{line}", text) for line, text in enumerate(QUERIES, start=2)
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "has no rows; give a header and a row for each example"),
        (b"text,class\n", "has no rows; give a header and a row for each example"),
        (b"text;class\nhi;a\n", "has the columns text;class; it needs text,label"),
        (b"text,kind\nhi,a\n", "has the columns text,kind; it needs text,label (or filename,label)"),
        (b"text,class\nhi,a\npay, please,b\n", "line 3: not as many fields as the header; put quotes around commas"),
        (b'text,class\n"hi,a\n', "is a quote never closed?"),
        (b"text,class\n\xff\xfe,a\n", "byte 11 is no UTF-8; save the file as UTF-8"),
        (b"text,class\nhi,a\n ,b\n", "line 3: text is empty; fill it in, or take the line out"),
        (b"text,class\nhi,a\nho,\n", "line 3: class is empty; fill it in, or take the line out"),
        (b"text,class\nhi,a\nho,a\n", "has one class, a; put examples of two classes or more into it"),
        (b"text,class\nhi,a\nHi ,b\n", "support.csv:3 (class b) and"),
        (b"filename,class\nhi.png,a\nho.png,b\n", "was trained on sentences; give a csv file with the columns text,label"),
        (None, "is missing; give a csv file"),
    ],
)
def test_a_broken_csv_file_is_refused_in_one_line(run, tmp_path, support, content, says):
    broken = tmp_path / "support.csv"
    broken.unlink()
    if content is not None:
        broken.write_bytes(content)
    done = predict(run, tmp_path, f"support={broken}", f"query={broken}")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert says in done.err
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("label\na\n", "has the columns label; it needs text (or filename)"),
        ("text\n \n", "line 2: text is empty"),
        ("filename\nx.png\n", "query has images, and run="),
    ],
)
def test_a_broken_query_is_refused_in_one_line(run, tmp_path, support, content, says):
    (tmp_path / "query.csv").write_text(content)
    done = predict(run, tmp_path, f"support={support}", f"query={tmp_path / 'query.csv'}")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert says in done.err
    assert not list(tmp_path.glob("out*"))


def test_spaces_around_a_class_make_no_other_class(tmp_path):
    path = write_csv(tmp_path / "support.csv", ["text", "class"], [("pay", "a"), ("pay now", "a "), ("fly", " b")])
    assert [example.label for example in read_support(str(path))[0]] == ["a", "a", "b"]


def test_rows_of_sentences_are_whole_numbers(run):
    rows = FewShotLearner.from_run(run).rows(QUERIES)
    assert FewShotLearner.from_run(run).rows(rows.double().numpy()).equal(rows)
    for wrong in (rows + 0.5, rows * float("nan")):
        with pytest.raises(ValueError, match="inputs have fractions"):
            FewShotLearner.from_run(run).rows(wrong)


def test_images_are_none_for_a_run_on_sentences_nor_the_reverse(run, tmp_path, support, compose_config):
    for level, name in enumerate("ab"):
        write_image(tmp_path / "images" / name / "0.png", level)
    done = predict(run, tmp_path, f"support={tmp_path / 'images'}")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "was trained on sentences; give a csv file with the columns text,label" in done.err
    on_images, _ = untrained(compose_config(tmp_path, "model=protonet", "data=glyphs"))
    done = predict(on_images, tmp_path, f"support={support}")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "was trained on images; give images, or a run on text" in done.err


def test_the_adapted_network_of_sentences_is_exported(run, tmp_path, support):
    places = (f"run={run}", f"support={support}", f"out={tmp_path / 'model'}", f"hydra.run.dir={tmp_path / 'log'}")
    done = main("export.py", *places, "format=safetensors")
    assert done.code == 0, done.err
    assert "classes ../travel, оплата" in done.out
