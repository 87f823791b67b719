"""Sentences as hashed n-grams, and the files that they come from."""

import json

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer

from fewshot.data.datamodule import EpisodicDataModule
from fewshot.data.files.places import Place
from fewshot.data.files.rows import read_rows
from fewshot.data.parts import class_tasks
from fewshot.data.preparation import prepare
from fewshot.data.source import SPLITS
from fewshot.data.splits import Fractions
from fewshot.data.text.intents import Banking77, Clinc150
from fewshot.data.text.sentences import Sentences
from fewshot.hashing import FIRST, PAD, WORD, bucket, ngrams, sentence_ids
from tests.data.fakes import refusal, silent

ROW = {"length": 64, "buckets": 1000, "ngrams": (2, 4)}


def test_hashing_is_the_same_everywhere():
    """BLAKE2b's first 8 bytes, little-endian, worked out once."""
    assert [bucket(token, 2**15) for token in (" a", "ab ", "état")] == [21795, 21774, 10199]


def test_ngrams_are_those_of_scikit_learn():
    text = "I can't pay,  with my card at x"
    analyzer = CountVectorizer(analyzer="char_wb", ngram_range=(2, 4)).build_analyzer()
    assert [token for word in text.lower().split() for token in ngrams(word, 2, 4)] == analyzer(text)


def test_a_sentence_is_its_words_and_is_cut_after_a_whole_one():
    row, cut = sentence_ids("Pay a BILL", 2, 3, 1000, 32)
    assert not cut
    assert np.flatnonzero(row == WORD).tolist() == [0, 8, 12]  # pay: 4 + 3 n-grams; a: 2 + 1
    assert (row[np.flatnonzero(row == PAD)[0] :] == PAD).all()
    assert ((row == PAD) | (row == WORD) | (row >= FIRST)).all()
    short, cut = sentence_ids("Pay a BILL", 2, 3, 1000, 14)
    assert cut
    assert short.tolist() == [*row[:12], 0, 0]


def write_clinc(folder, sentences):
    (folder / "clinc150").mkdir(parents=True)
    (folder / "clinc150/data_full.json").write_text(json.dumps(sentences))
    (folder / "clinc150/domains.json").write_text(json.dumps({"banking": ["pay", "freeze"], "travel": ["book"]}))
    return Clinc150(str(folder), **ROW)


def test_clinc150_with_a_number_in_place_of_a_sentence_is_refused(tmp_path):
    source = write_clinc(tmp_path, {"train": [["pay me", "pay"], [7, "pay"]], "val": [], "test": []})
    assert "data_full.json: 7 of pay is no text" in refusal(lambda: source.parts)


def test_clinc150_joins_its_parts(tmp_path):
    intents = ("pay", "freeze", "book")
    parts = {part: [[f"{label} number {part}", label] for label in intents] for part in ("train", "val", "test")}
    parts["train"] += [["PAY number train", "pay"], ["  ", "pay"]]
    source = write_clinc(
        tmp_path, parts | {f"oos_{part}": [[text, "oos"]] for part, text in zip(parts, ("what", "who", "why"), strict=True)}
    )
    assert source.parts == ("all",)
    assert [(c.name, c.group, c.size) for c in source.classes("all")] == [
        ("book", "travel", 3),
        ("freeze", "banking", 3),
        ("pay", "banking", 3),
    ]
    unknown = Clinc150(str(tmp_path), **ROW, in_scope=False)
    assert (unknown.name, unknown.columns("all")) == ("clinc150-oos", {"text": ["what", "who", "why"]})
    prepared = prepare(source, "all", tmp_path / "cache", silent)
    assert prepared.x.dtype.is_signed
    assert prepared.x.shape == (9, 64)
    texts = prepared.table.columns["text"]
    for row, value in enumerate(texts.values):
        assert prepared.x[row].tolist() == sentence_ids(texts.names[value], 2, 4, 1000, 64)[0].tolist()


def test_banking77_reads_both_files(tmp_path):
    (tmp_path / "banking77").mkdir()
    for part in ("train", "test"):
        (tmp_path / f"banking77/{part}.csv").write_text(f'text,category\n"where, {part}",card\n')
    source = Banking77(str(tmp_path), **ROW)
    assert [(c.name, c.size) for c in source.classes("all")] == [("card", 2)]
    assert list(source.columns("all")["text"]) == ["where, train", "where, test"]


def own(tmp_path, content, name="mine.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Sentences(str(path), **ROW)


def test_own_files_may_have_groups_and_a_split(tmp_path):
    csv = own(tmp_path, "class,text,split,group\na,one,train,x\nb,two,val,y\nc,three,test,x\n")
    lines = (("a", "one", "train", "x"), ("b", "two", "val", "y"), ("c", "three", "test", "x"))
    rows = [dict(zip(("class", "text", "split", "group"), line, strict=True)) for line in lines]
    jsonl = own(tmp_path, "\n".join(map(json.dumps, rows)), "mine.jsonl")
    for source in (csv, jsonl):
        assert source.parts == ("train", "val", "test")
        assert [c.name for c in source.classes("val")] == ["b"]
        assert source.columns("test") == {"text": ["three"], "group": ["x"]}


def test_numbers_are_names_of_classes_and_spaces_are_not(tmp_path):
    rows = [{"text": "one", "class": 0}, {"text": "two", "class": 1}, {"text": "three", "class": 0}]
    source = own(tmp_path, "\n".join(map(json.dumps, rows)), "mine.jsonl")
    assert [(c.name, c.size) for c in source.classes("all")] == [("0", 2), ("1", 1)]
    source = own(tmp_path, "text,class,split\none,a ,train\ntwo, a,train \nthree,b,test\n")
    assert [(c.name, c.size) for c in source.classes("train")] == [("a", 2)]


def test_a_split_that_only_some_rows_have_is_refused(tmp_path):
    rows = [{"text": "one", "class": "a"}, {"text": "two", "class": "b", "split": "test"}]
    source = own(tmp_path, "\n".join(map(json.dumps, rows)), "mine.jsonl")
    assert "mine.jsonl, line 1: split is ''; it must be one of: train, val, test" in refusal(source.classes, "all")


def test_two_files_of_one_name_are_two_datasets(tmp_path):
    """Each part has the sentences of its own file, whichever was prepared last."""
    sources = {}
    for folder, classes in (("a", "defghi"), ("b", "xyz")):
        (tmp_path / folder).mkdir()
        lines = [f"say {label}{i},{label}" for label in classes for i in range(3)]
        sources[folder] = own(tmp_path / folder, "\n".join(["text,class", *lines]))
    trained, tested = (class_tasks(sources[folder], 2, 1, 1) for folder in "ab")
    module = EpisodicDataModule(
        trained, trained, tested, str(tmp_path / "cache"), [64], 1, 1, 1, seed=0, split=Fractions(0.4, 0.3, 0.3)
    )
    module.check(SPLITS)
    module.prepare(SPLITS)
    for part, folder in (("train", "a"), ("val", "a"), ("test", "b")):
        content = module.prepared[part]
        texts = content.table.columns["text"]
        (arrays,) = content.arrays
        for row, value in enumerate(texts.values):
            expected, _ = sources[folder].row(texts.names[value])
            assert arrays.take("x", torch.tensor([row]))[0].tolist() == expected.tolist()
    assert set(module.prepared["test"].table.classes) == set("xyz")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("text,label\na,b\n", ["there is no column class", "label, text"]),
        ('text,class\n"never closed,b\n', ["unexpected end of data", "quote"]),
        ("text,class\na,b,c\n", ["line 2", "not as many fields"]),
        (b"text,class\n\xff\xfe,b\n", ["byte 11 is no UTF-8"]),
        ("text,class,split\na,b,dev\n", ["line 2", "split is 'dev'"]),
        ("text,class\na,\n", ["line 2", "no class"]),
        ("text,class\n , b\n", ["there is no sentence"]),
        ("text,class,class\na,b,c\n", ["has the column class twice"]),
    ],
)
def test_broken_files_are_refused_in_a_line(tmp_path, content, words):
    message = refusal(own(tmp_path, content).classes, "all")
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "own.jsonl",
            '{"text": "half \\ud800", "class": "a"}',
            "sentences-own: 'half \\ud800' holds half a character",
        ),
        ("own.jsonl", '{"text": ["a"], "class": "a"}', "line 1: text is ['a']; give a text"),
        ("own.tsv", "text\tclass\na\tb\n", "own.tsv ends neither in .csv nor in .jsonl"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    assert words in refusal(Sentences(str(tmp_path / name), **ROW).classes, "all")


def test_the_case_of_an_ending_does_not_matter(tmp_path):
    (tmp_path / "own.CSV").write_text("text,class\na,b\n")
    assert [c.name for c in Sentences(str(tmp_path / "own.CSV"), **ROW).classes("all")] == ["b"]


def test_other_signs_that_end_a_line_do_not_end_a_row(tmp_path):
    path = tmp_path / "own.csv"
    path.write_bytes('text,class\r\none\u2028two\x85three,a\r\n"four\nfive",b\r\n'.encode())
    rows = [(2, {"text": "one\u2028two\x85three", "class": "a"}), (4, {"text": "four\nfive", "class": "b"})]
    assert read_rows(Place(path)) == rows


def test_empty_sentences_are_left_out_and_long_ones_cut_with_a_count(tmp_path, caplog):
    caplog.set_level("INFO")
    long = " ".join(["word"] * 10_000)
    source = own(tmp_path, f"text,class\n{long},a\n ,a\nhello,a\nhello,a\n")
    assert [c.size for c in source.classes("all")] == [2]
    prepare(source, "all", tmp_path / "cache", silent)
    assert "1 of 4 sentences left out, empty" in caplog.text
    assert "1 of 4 sentences left out, twice in a class" in caplog.text
    assert "1 of 2 sentences cut, which have more than data.image_shape=" in caplog.text


@pytest.mark.parametrize("change", [{"length": 0}, {"buckets": 2}, {"ngrams": (4, 2)}, {"ngrams": (2,)}])
def test_options_that_cannot_be_are_refused(tmp_path, change):
    assert "must be" in refusal(lambda: Sentences(str(tmp_path / "x.csv"), **(ROW | change)))


@pytest.mark.slow
def test_the_real_files(data_dir):
    clinc, banking = Clinc150(str(data_dir), 256, 2**15, (2, 4)), Banking77(str(data_dir), 384, 2**15, (2, 4))
    assert len(clinc.classes("all")) == 150
    assert {c.size for c in clinc.classes("all")} <= {149, 150}
    assert len({c.group for c in clinc.classes("all")}) == 10
    assert len(banking.classes("all")) == 77
