"""FewRel: corpora as parts, relations that two of them share, and distances to the head and the tail."""

import json

import pytest

from fewshot.data.text.relations import FewRel
from fewshot.hashing import WORD, bucket
from tests.data.fakes import refusal

ROW = {"length": 256, "buckets": 1000, "ngrams": (2, 4)}
BRIDGE = {
    "tokens": ["The", "old", "bridge", "crosses", "two rivers", "."],
    "h": ["old bridge", "Q1", [[1, 2]]],
    "t": ["two rivers", "Q2", [[4], [0]]],
}
MARKED = "The <h> old bridge </h> crosses <t> two rivers </t> ."


def write(folder, corpora, **options):
    (folder / "fewrel").mkdir(exist_ok=True)
    for name, relations in corpora.items():
        (folder / f"fewrel/val_{name}.json").write_text(json.dumps(relations))
    (folder / "fewrel/pid2name.json").write_text(json.dumps({"P1": ["crosses", "..."], "P2": ["child", "..."]}))
    return FewRel(str(folder), **({"positions": 2} | ROW | options))


@pytest.fixture
def source(tmp_path):
    return write(tmp_path, {"wiki": {"P1": [BRIDGE]}, "nyt": {"P1": [BRIDGE], "P2": [BRIDGE]}, "pubmed": {"is_a": [BRIDGE]}})


def test_relations_of_an_earlier_corpus_are_left_out_and_named(source, caplog):
    caplog.set_level("INFO")
    names = {part: [c.name for c in source.classes(part)] for part in source.parts}
    assert names == {"train": ["crosses (P1)"], "val": ["child (P2)"], "test": ["is_a"]}
    assert "1 of 2 relations of val_nyt.json left out, in an earlier corpus: P1" in caplog.text


def test_a_sentence_has_its_head_and_tail_in_marks(source):
    assert source.columns("train")["text"] == [MARKED]


def test_words_have_their_distances_to_head_and_tail(source, tmp_path):
    row, cut = source.row(MARKED)
    assert not cut
    words = [[]]
    for number in row[row > 0].tolist():
        words[-1:] = [words[-1], []] if number == WORD else [words[-1] + [number]]
    found = [word[-2:] for word in words[1:]]
    expected = [(-1, -2), (0, -2), (0, -2), (1, -1), (2, 0), (2, 0), (2, 1)]  # at most 2
    assert found == [[bucket(f" h {h}", 1000), bucket(f" t {t}", 1000)] for h, t in expected]
    plain, _ = write(tmp_path, {}, positions=0).row(MARKED)
    assert (row > 0).sum() - (plain > 0).sum() == 2 * len(expected)


def test_sentences_without_marks_are_refused(source):
    assert "has no head and tail; put <h> and </h>" in refusal(source.encode, "The old bridge")
    assert "is no sentence" in refusal(source.encode, " ")


@pytest.mark.parametrize("broken", [{"P1": [{"tokens": ["a"]}]}, {"P1": [{**BRIDGE, "h": ["x", "Q", []]}]}, ["P1"], {"P1": 3}])
def test_files_that_are_not_as_published_are_refused(tmp_path, broken):
    source = write(tmp_path, {"wiki": broken, "nyt": {}, "pubmed": {}})
    assert "val_wiki.json is not as published" in refusal(source.classes, "train")


@pytest.mark.slow
def test_the_real_files(data_dir):
    source = FewRel(str(data_dir), 20, 1024, 2**15, (2, 4))
    assert [len(source.classes(part)) for part in source.parts] == [16, 17, 10]


@pytest.mark.parametrize(("experiment", "words"), [("fewrel_5w1s", 64), ("clinc150_5w1s", 32)])
def test_networks_read_as_many_words_as_sentences_have(compose_config, tmp_path, experiment, words):
    """Of FewRel's newspapers, half of the sentences have more than 32 words."""
    cfg = compose_config(tmp_path, "model=protonet", "model/backbone=word_conv", experiment=experiment)
    assert cfg.model.backbone.words == words
