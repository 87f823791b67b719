"""Tests of the embedded dataset: its classes, and the bytes of its drawings on every machine."""

import hashlib
import unicodedata
from itertools import combinations

import numpy as np
import pytest

from fewshot.data.images.glyphs import DRAWINGS, FACES, Glyphs, draw, load_faces, turned
from fewshot.data.images.rotated_glyphs import LARGEST, RotatedGlyphs
from fewshot.data.preparation import prepare
from fewshot.data.source import SPLITS
from tests.data.fakes import silent, split_list

LISTED = split_list("glyphs")
CLASSES = {"train": 713, "val": 183, "test": 223}
HELD_OUT = ("GREEK", "CYRILLIC", "ARMENIAN", "GEORGIAN")
DRAWN = {
    "A": "e1ab81b692c3dcc9768c6231296b78f7b3427754d19b65968c8cae5cce0ef89e",
    "g": "7e7a0fec6a14e53d605979f1597e91b23f6428593b2e8b160b176efffec7b3f7",
    "ß": "28cacb60d12b7d933f2f52a427cda040edcdb128d09977412f3f67fbd2345fea",
    "7": "4c4ae40e4eba713418b9138259771df3ace51248ae34aa2b632332d955fa6f29",
    "→": "6684f84e769902165b5bd83da0904cb95b51113bcfbd5dce616a9cc844e24ff1",
    "Ω": "d30ca7b4ea0fd9a7435628d03490eb59bd0a94baa3153e873183f744284334f6",
    "Ж": "6fb86157b76c6bf8b8ad38845b11e65939784b59243998db4a24a5a68c4c91ff",
    "Ա": "37623642bf7eaa295f9fbbcad58690f751b5bd1985c5ea114c44dea6c768bfc6",
}
PREPARED = {
    "train": "91882afeeb85763fc7436171952168b1722a10e7c996b53d790d88f75357ae46",
    "val": "d55bf79a5fa5d3f2db1c5f6fff54e79558348154cb66c3efb513a66a221c4775",
    "test": "307e08b70ddb67fa0c56ce1349ce43e631ec28316cb81fbfa10fa7d880354917",
}


def names(split):
    return [c.name for c in Glyphs().classes(split)]


def unicode_names(split):
    return [unicodedata.name(chr(int(name.removeprefix("U+"), 16))) for name in names(split)]


@pytest.mark.parametrize("split", SPLITS)
def test_classes_are_those_listed(split):
    listed = {f"U+{ord(c):04X}": script for script, characters in LISTED[split].items() for c in characters}
    assert {c.name: c.group for c in Glyphs().classes(split)} == listed
    assert len(names(split)) == CLASSES[split] == sum(map(len, LISTED[split].values()))
    assert {c.size for c in Glyphs().classes(split)} == {20}


@pytest.mark.parametrize("split", SPLITS)
def test_classes_are_sorted_by_name(split):
    assert names(split) == sorted(set(names(split)))


def test_there_are_as_many_classes_as_the_documentation_says():
    from fewshot.data.images import glyphs

    assert sum(CLASSES.values()) >= 1000
    assert f"{sum(CLASSES.values()):,} classes of {DRAWINGS} drawings" in glyphs.__doc__


def test_no_class_and_no_script_is_in_two_splits():
    for one, other in combinations(SPLITS, 2):
        assert not set(names(one)) & set(names(other))
        assert not set(LISTED[one]) & set(LISTED[other])


def test_unicode_agrees_that_scripts_are_held_out():
    scripts = {split: {s for s in ("LATIN", *HELD_OUT) for n in unicode_names(split) if n.startswith(s)} for split in SPLITS}
    assert scripts == {"train": {"LATIN"}, "val": {"GREEK"}, "test": {"CYRILLIC", "ARMENIAN", "GEORGIAN"}}


@pytest.mark.parametrize(
    "characters",
    ["AΑА", "BΒВ", "HΗН", "EΕЕ", "PΡР", "TΤТ", "oοо", "0OОΟ", "cсϲ", "pрρ", "xхХXΧ", "iіι", "µμ", "Ω\u2126", "Δ∆", "Σ∑"],
)
def test_look_alikes_are_one_class_at_most(characters):
    every = "".join(text for scripts in LISTED.values() for text in scripts.values())
    assert sum(every.count(c) for c in characters) <= 1


@pytest.mark.parametrize("character", DRAWN)
def test_drawings_are_the_same_on_every_machine(character):
    assert hashlib.sha256(draw(ord(character), load_faces()).tobytes()).hexdigest() == DRAWN[character]


@pytest.mark.parametrize("character", "A.→Ж○")
def test_drawings_of_a_character_all_differ(character):
    drawings = draw(ord(character), load_faces())
    assert drawings.shape == (DRAWINGS, 28, 28)
    assert len(np.unique(drawings.reshape(DRAWINGS, -1), axis=0)) == DRAWINGS


@pytest.mark.parametrize("character", "A|○—Ю")
def test_drawings_are_white_on_black_and_within_the_frame(character):
    drawings = draw(ord(character), load_faces())
    assert (drawings.max(axis=(1, 2)) > 200).all()
    assert (drawings[:, [0, 0, -1, -1], [0, -1, 0, -1]] == 0).all()
    assert (drawings.reshape(DRAWINGS, -1).mean(axis=1) < 128).all()


@pytest.mark.parametrize("split", SPLITS)
def test_images_come_in_the_order_of_the_classes(split):
    first = next(Glyphs().images(split))
    character = int(names(split)[0].removeprefix("U+"), 16)
    np.testing.assert_array_equal(first, draw(character, load_faces())[:, None])


def test_the_source_files_are_the_fonts():
    files = Glyphs().files("train")
    assert [path.stem for path in files] == list(FACES)
    assert all(path.is_file() for path in files)


@pytest.mark.slow
@pytest.mark.parametrize("split", [pytest.param("train", marks=pytest.mark.proof), "val", "test"])
def test_a_split_is_the_same_on_every_machine(split, tmp_path):
    prepared = prepare(Glyphs(), split, tmp_path, silent)
    assert prepared.x.numpy().shape == (CLASSES[split] * 20, 1, 28, 28)
    assert prepared.images_sha256 == PREPARED[split]
    assert hashlib.sha256(prepared.x.numpy().tobytes()).hexdigest() == PREPARED[split]
    assert len(np.unique(prepared.x.numpy().reshape(len(prepared.x.numpy()), -1), axis=0)) == len(prepared.x.numpy())


def test_a_drawing_is_turned_anticlockwise():
    arrow = ord("→")
    right = np.array([[[-1.0, 0.0], [1.0, 0.0]]])
    assert np.allclose(turned(right, np.pi / 2), [[[0.0, 1.0], [0.0, -1.0]]])  # y points downward
    assert np.array_equal(draw(arrow, load_faces(), np.zeros(DRAWINGS)), draw(arrow, load_faces()))
    up = draw(arrow, load_faces(), np.full(DRAWINGS, np.pi / 2)).astype(float)
    across, along = (up.sum(axis=axis) > 0 for axis in (1, 2))
    assert (along.sum(axis=1) > across.sum(axis=1)).all()  # it is higher than wide


def test_angles_are_the_targets_of_turned_drawings():
    source = RotatedGlyphs()
    images, shares = next(source.read("val"))
    assert (images.shape, shares.shape, shares.dtype) == ((DRAWINGS, 1, 28, 28), (DRAWINGS,), np.float32)
    assert -1 <= shares.min() < -0.5
    assert 0.5 < shares.max() <= 1
    (first, *_), columns = names("val"), source.columns("val")["character"]
    assert columns[:DRAWINGS] == [first] * DRAWINGS
    assert len(columns) == DRAWINGS * CLASSES["val"]
    straight = draw(int(first.removeprefix("U+"), 16), load_faces(), shares.astype(float) * 0)
    again = draw(int(first.removeprefix("U+"), 16), load_faces(), shares.astype(float) * LARGEST)
    assert (images[:, 0] != straight).any(axis=(1, 2)).all()
    assert np.abs(images[:, 0].astype(int) - again).max() <= 1  # float32 shares differ in the last bit
