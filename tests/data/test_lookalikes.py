"""Tests of the choice of characters: which look alike, and that the list of splits is what the code makes."""

import pytest

from fewshot.data.images.glyphs import load_faces
from fewshot.data.images.lookalikes import FACES_NEEDED, alike, candidates, distinct, script_of, splits
from tests.data.fakes import split_list


def codes(text):
    return [ord(c) for c in text]


@pytest.mark.parametrize(
    ("character", "script", "split"),
    [
        *(("A", "latin", "train"), ("ß", "latin", "train"), ("ə", "latin", "train"), ("7", "signs", "train")),
        *(("→", "arrows", "train"), ("∑", "mathematics", "train"), ("Ω", "greek", "val"), ("ἀ", "greek", "val")),
        *(("€", "currency", "val"), ("⅓", "numbers", "val"), ("☃", "symbols", "val"), ("Ж", "cyrillic", "test")),
        *(("Ա", "armenian", "test"), ("ა", "georgian", "test"), ("■", "shapes", "test")),
    ],
)
def test_a_character_belongs_to_its_script(character, script, split):
    assert script_of(ord(character)) == (script, split)


def test_candidates_are_common_letters_and_signs():
    faces = load_faces()
    found = candidates(faces)
    assert found == sorted(set(found))
    assert set(codes("Aaß7+€Ж")) <= set(found)
    assert not set(codes(" \u0301ʰ─█\ufffd_(")) & set(found)  # blank, combining, modifier, box, block, special, punctuation
    assert all(sum(c in face.characters for face in faces) >= FACES_NEEDED for c in found[::50])


def test_twins_look_alike_and_others_do_not():
    text = "AΑАoοоBHQ|"
    same = alike(codes(text), load_faces())
    assert (same == same.T).all()
    assert same.diagonal().all()
    groups = ["AΑА", "oοо", "B", "H", "Q", "|"]
    for i, one in enumerate(text):
        for j, other in enumerate(text):
            assert same[i, j] == any(one in group and other in group for group in groups), (one, other)


def test_of_look_alikes_the_first_is_kept():
    assert distinct(codes("ABΑoΒοЖ"), load_faces()) == codes("ABoЖ")


@pytest.mark.proof
def test_the_list_is_what_the_code_makes():
    assert splits() == split_list("glyphs")
