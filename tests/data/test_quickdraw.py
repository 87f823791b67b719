"""Tests of Quick, Draw!: the same arrays, a split that overlaps nowhere, and files that are missing, wrong or hostile."""

import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy

from fewshot.data.images.quickdraw import FILE, QuickDraw
from fewshot.data.preparation import prepare
from fewshot.data.published import part_of_class
from fewshot.data.source import SPLITS
from tests.data.fakes import refusal, silent

NAMES = [f"thing {number:03d}" for number in reversed(range(345))]


def write(folder, **changes):
    """A file whose drawing ``j`` of category ``i`` is grey ``(i + j) % 256``."""
    grey = (np.arange(345)[:, None] + np.arange(100)).astype(np.uint8)
    arrays = {"images": np.broadcast_to(grey[:, :, None, None], (345, 100, 28, 28)), "class_names": np.array(NAMES)}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / FILE, **(arrays | changes))
    return QuickDraw(str(folder))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write(tmp_path_factory.mktemp("quickdraw"))


def test_every_category_is_in_one_split(source):
    members = {split: [c.name for c in source.classes(split)] for split in SPLITS}
    assert {split: len(names) for split, names in members.items()} == {"train": 207, "val": 69, "test": 69}
    assert sorted(name for names in members.values() for name in names) == sorted(NAMES)
    assert all(names == sorted(names) for names in members.values())


def test_the_split_depends_on_names_alone(source, tmp_path):
    """Not on their order in the file."""
    other = write(tmp_path, class_names=np.array(sorted(NAMES)))
    assert [source.classes(split) for split in SPLITS] == [other.classes(split) for split in SPLITS]


def test_images_are_those_of_their_class(source):
    for kind, images in zip(source.classes("val"), source.images("val"), strict=True):
        assert images.shape == (kind.size, 1, 28, 28)
        row = NAMES.index(kind.name)
        assert images[:, 0, 0, 0].tolist() == [(row + j) % 256 for j in range(100)]


def test_some_of_the_drawings_are_another_data_set(tmp_path):
    write(tmp_path)
    source = QuickDraw(str(tmp_path), drawings=7)
    assert {c.size for c in source.classes("val")} == {7}
    assert next(source.images("val")).shape == (7, 1, 28, 28)
    assert (source.name, QuickDraw(str(tmp_path)).name) == ("quickdraw-7", "quickdraw")
    assert "data.source.drawings=0 must be a whole number" in refusal(QuickDraw, str(tmp_path), drawings=0)


# Google's file of each category

REAL = sorted(part_of_class("quickdraw", "metadataset"))


def write_bitmaps(folder, names, prefix=""):
    """Of category `i`, `i % 3 + 1` drawings of grey `i % 256`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        i = REAL.index(name)
        np.save(folder / f"{prefix}{name}.npy", np.full((i % 3 + 1, 784), i % 256, dtype=np.uint8))


@pytest.mark.parametrize("prefix", ["", "full_numpy_bitmap_"])
@pytest.mark.parametrize("split", [None, "metadataset"])
def test_googles_files_have_the_split_of_their_names(tmp_path, prefix, split):
    write_bitmaps(tmp_path / "quickdraw", REAL, prefix)
    source = QuickDraw(str(tmp_path), split)
    members = {part: [c.name for c in source.classes(part)] for part in SPLITS}
    assert [len(members[part]) for part in SPLITS] == ([207, 69, 69] if split is None else [241, 52, 52])
    assert sorted(name for names in members.values() for name in names) == REAL
    for kind, images in zip(source.classes("val"), source.images("val"), strict=True):
        i = REAL.index(kind.name)
        assert images.shape == (kind.size, 1, 28, 28) == (i % 3 + 1, 1, 28, 28)
        assert (images == i % 256).all()
    assert len(source.files("test")) == len(members["test"])


@pytest.mark.parametrize("below", ["numpy_bitmap", "quickdraw/numpy_bitmap", "quickdraw/full/numpy_bitmap"])
def test_googles_files_may_be_in_the_folders_of_its_bucket(tmp_path, below):
    write_bitmaps(tmp_path / below, REAL[:9])
    source = QuickDraw(str(tmp_path), "metadataset", allow_partial=True)
    assert sorted(kind.name for part in SPLITS for kind in source.classes(part)) == REAL[:9]


def test_a_few_categories_stay_in_their_parts(tmp_path):
    """Those of the whole dataset: another number of files deals nothing anew."""
    write_bitmaps(tmp_path / "all", REAL)
    write_bitmaps(tmp_path / "some", REAL[::20])
    whole, some = QuickDraw(str(tmp_path / "all")), QuickDraw(str(tmp_path / "some"), allow_partial=True)
    for part in SPLITS:
        assert {c.name for c in some.classes(part)} == {c.name for c in whole.classes(part)} & set(REAL[::20])
    said = refusal(QuickDraw(str(tmp_path / "some")).classes, "train")
    assert f"lacks 327 of the 345 categories (first: {REAL[1]}.npy)" in said
    assert some.name == "quickdraw-partial"


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((2, 784), dtype=np.float32), "it is float32 (2, 784) instead of uint8 (n, 784)"),
        (np.zeros(784, dtype=np.uint8), "it is uint8 (784,) instead of uint8 (n, 784)"),
        (np.array([{}]), "cannot be read"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, array, said):
    np.save(tmp_path / f"{REAL[0]}.npy", array, allow_pickle=True)
    assert said in refusal(lambda: [QuickDraw(str(tmp_path), allow_partial=True).classes(part) for part in SPLITS])


def test_a_header_that_promises_more_than_there_is_is_not_believed(tmp_path):
    with (tmp_path / f"{REAL[0]}.npy").open("wb") as file:
        npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (10**12, 784)})
    assert "cannot be read" in refusal(lambda: [QuickDraw(str(tmp_path), allow_partial=True).classes(part) for part in SPLITS])


def test_it_is_found_in_a_folder_of_its_own(tmp_path):
    write(tmp_path / "quickdraw")
    assert len(QuickDraw(str(tmp_path)).classes("test")) == 69


def test_a_missing_file_is_said_with_where_it_belongs(tmp_path):
    message = refusal(QuickDraw(str(tmp_path)).classes, "train")
    assert f"paths.data_dir={tmp_path} lacks {FILE}" in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_names": np.array(NAMES[:-1])}, "class_names is <U9 (344,) instead of"),
        ({"class_names": np.array([*NAMES[:-1], NAMES[0]])}, "names a category twice"),
        ({"class_names": np.array(NAMES, dtype=object)}, "class_names cannot be read (it holds objects)"),
        ({"images": np.zeros((345, 100, 28, 27), dtype=np.uint8)}, "images is uint8 (345, 100, 28, 27) instead of"),
        ({"images": np.zeros((345, 100, 28, 28), dtype=np.int8)}, "images is int8"),
    ],
)
def test_other_arrays_are_refused(tmp_path, changes, words):
    other = write(tmp_path, **changes)
    assert words in refusal(lambda: (other.classes("val"), next(other.images("val"))))


def test_a_header_that_promises_too_much_is_believed_no_further(tmp_path):
    """The promised terabytes are not asked for."""
    write(tmp_path)
    with zipfile.ZipFile(tmp_path / FILE) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["images.npy"] = members["images.npy"].replace(b"(345, 100, 28, 28)", b"(345, 10**9, 9, 9)")
    with zipfile.ZipFile(tmp_path / FILE, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    assert "images" in refusal(lambda: next(QuickDraw(str(tmp_path)).images("val")))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04"])
def test_something_else_is_refused(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    assert FILE in refusal(QuickDraw(str(tmp_path)).classes, "train")


def test_a_truncated_array_is_refused(tmp_path):
    write(tmp_path)
    with zipfile.ZipFile(tmp_path / FILE) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["images.npy"] = members["images.npy"][:-1000]
    with zipfile.ZipFile(tmp_path / FILE, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    assert "images cannot be read" in refusal(lambda: next(QuickDraw(str(tmp_path)).images("val")))


@pytest.mark.real_data
def test_the_real_sketches_are_whole_and_white_on_black(data_dir, tmp_path):
    source = QuickDraw(str(data_dir))
    names = {split: {c.name for c in source.classes(split)} for split in SPLITS}
    assert {"aircraft carrier", "zigzag"} <= set.union(*names.values())
    assert not names["train"] & names["test"]
    split = prepare(source, "test", tmp_path, silent)
    assert split.x.numpy().shape == (6900, 1, 28, 28)
    corners = split.x.numpy()[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 0).mean() > 0.8, "paper is black"
    assert split.x.numpy().max() == 255
