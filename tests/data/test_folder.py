"""Tests of a user's own images: every form gives the classes and pixels that are there, or is refused in one line."""

import logging
import os

import numpy as np
import pytest
from PIL import Image

from fewshot.data.images.folder import Folder
from fewshot.data.preparation import prepare
from fewshot.data.prepared import find
from fewshot.data.source import SPLITS
from fewshot.data.splits import OwnOrFractions, Published
from fewshot.tasks.table import CLASS, Column, Table
from tests.data.fakes import data_module, image_bytes, photo, refusal, silent

CLASSES = {"a cat": 3, "Dog": 2, "Élan": 4}
"""Images of each."""


def picture(number: int) -> np.ndarray:
    return np.full((8, 8, 3), 10 * number + 5, dtype=np.uint8)


def write_classes(root, classes=CLASSES, suffix=".JPG"):
    """Each class's images are of one grey, each image of one lightness."""
    for number, (label, count) in enumerate(classes.items()):
        (root / label).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            (root / label / f"{label} {i}{suffix}").write_bytes(image_bytes(picture(4 * number + i)))
    return root


def write_flat(root, names):
    """Images without folders."""
    root.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(image_bytes(picture(number)))
    return root


def folder(root, **options):
    return Folder(str(root), **{"image_shape": (3, 8, 8), **options})


def found(source, part="all"):
    """Class -> the greys of its images."""
    greys = (images[:, 0, 0, 0].tolist() for images in source.images(part))
    return {
        kind.name: [(grey - 5) // 10 for grey in of_class] for kind, of_class in zip(source.classes(part), greys, strict=True)
    }


# Folders


@pytest.mark.parametrize("written", [b"m\xe9sange", b"\xff"])
def test_a_class_whose_name_is_no_utf8_is_refused_before_anything_is_decoded(tmp_path, written):
    """As a disk or archive of another system has them."""
    write_classes(tmp_path / "birds" / "train")
    write_classes(tmp_path / "birds" / "val", {"Cow": 2})
    (tmp_path / "birds" / "train" / os.fsdecode(written)).mkdir()
    (tmp_path / "birds" / "train" / os.fsdecode(written) / "a.png").write_bytes(b"undecodable")
    source = folder(tmp_path / "birds")
    message = f"folder-birds: the class {repr(written)[2:-1]} is no UTF-8; rename it"
    assert refusal(prepare, source, "train", tmp_path / "cache", silent) == message
    assert refusal(data_module(source, tmp_path / "cache").check, ["train"]) == message


def test_an_image_whose_name_is_no_utf8_is_read(tmp_path):
    write_classes(tmp_path / "birds")
    (tmp_path / "birds" / "Dog" / os.fsdecode(b"\xff.png")).write_bytes(image_bytes(picture(0)))
    assert prepare(folder(tmp_path / "birds"), "all", tmp_path / "cache", silent).classes[0].size == 3


@pytest.mark.parametrize("above", [".", "2750", "data/images", "train"])
def test_each_folder_is_a_class(tmp_path, above):
    """Also below a folder that has nothing else in it."""
    write_classes(tmp_path / "root" / above)
    source = folder(tmp_path / "root")
    assert source.parts == ("all",)
    assert found(source) == {"Dog": [4, 5], "a cat": [0, 1, 2], "Élan": [8, 9, 10, 11]}
    assert [(c.name, c.size) for c in source.classes("all")] == [("Dog", 2), ("a cat", 3), ("Élan", 4)]
    assert len(source.files("all")) == 9


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "PPM", "BMP", "WEBP", "TIFF"])
def test_every_kind_of_image_is_found_and_read(tmp_path, kind):
    for label in "ab":
        (tmp_path / label).mkdir()
        options = {"lossless": True} if kind == "WEBP" else {}
        Image.fromarray(picture(3)).save(tmp_path / label / f"x.{kind.lower()}", **options)
    assert found(folder(tmp_path)) == {"a": [3], "b": [3]}


def test_what_is_no_image_is_skipped_counted_and_said(tmp_path, caplog):
    write_classes(tmp_path)
    for name in ("a cat/.DS_Store", "a cat/._a cat 0.JPG", "Dog/Thumbs.db", ".git/x.jpg", "__MACOSX/x.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"?")
    with caplog.at_level(logging.INFO):
        assert len(folder(tmp_path).files("all")) == 9
    (line,) = caplog.messages
    assert line == (f"{tmp_path}: 3 classes, 9 images, 2 to 4 of each (median 3), 8x8 pixels; 3 other files skipped")


@pytest.mark.parametrize(("val", "test"), [("val", "test"), ("valid", "Test"), ("validation", "testing")])
def test_parts_with_classes_of_their_own_are_a_split(tmp_path, val, test):
    for number, part in enumerate(("train", val, test)):
        write_classes(tmp_path / part, {f"{part} {i}": 2 + number for i in range(2)})
    source = folder(tmp_path)
    assert source.parts == ("train", "val", "test")
    assert found(source, "val") == {f"{val} 0": [0, 1, 2], f"{val} 1": [4, 5, 6]}
    assert len(source.files("test")) == 8


def test_parts_with_the_same_classes_are_joined(tmp_path):
    write_classes(tmp_path / "train", {"a": 2, "b": 3})
    write_classes(tmp_path / "test", {"a": 1, "b": 2})
    source = folder(tmp_path)
    assert source.parts == ("all",)
    assert {name: len(images) for name, images in found(source).items()} == {"a": 3, "b": 5}


def test_parts_that_share_some_classes_are_refused(tmp_path):
    write_classes(tmp_path / "train", {"a": 2, "b": 3})
    write_classes(tmp_path / "val", {"b": 1, "c": 2})
    assert "train and val share some classes (b) but not all" in refusal(lambda: folder(tmp_path).parts)


def test_classes_may_be_called_as_parts_are(tmp_path):
    write_classes(tmp_path, {"test": 2, "exam": 2})
    assert found(folder(tmp_path)) == {"exam": [4, 5], "test": [0, 1]}


def test_folders_of_folders_are_refused(tmp_path):
    write_classes(tmp_path / "birds")
    write_classes(tmp_path / "fish")
    assert f"{tmp_path / 'birds'} holds folders (Dog, ...) instead of images" in refusal(lambda: folder(tmp_path).parts)


@pytest.mark.parametrize("name", [None, "image.jpg", "empty/x.txt"])
def test_a_folder_without_classes_is_refused(tmp_path, name):
    if name:
        write_flat(tmp_path, [name])
    assert f"paths.data_dir={tmp_path} holds no images to learn from" in refusal(lambda: folder(tmp_path).parts)


def test_a_missing_folder_is_refused(tmp_path):
    assert f"{tmp_path / 'x'} is missing; put it there or set paths.data_dir=FOLDER" in refusal(
        lambda: folder(tmp_path / "x").parts
    )


def test_some_classes_may_be_kept(tmp_path):
    write_classes(tmp_path)
    assert list(found(folder(tmp_path, classes=["Dog", "Élan"]))) == ["Dog", "Élan"]
    assert "data.source.classes=cow are no classes" in refusal(lambda: folder(tmp_path, classes=["Dog", "cow"]).parts)


# csv files

FLAT = ("1.png", "2.png", "3.png", "4.png")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("file,class\n1.png,x\n2.png,x\n3.png,y\n4.png,y\n", id="plain"),
        pytest.param("\ufeffclass, file\r\nx, 1.png\r\nx, 2.png\r\ny, 3.png\r\ny, 4.png\r\n\r\n", id="spreadsheet"),
        pytest.param("Label;Note;Image Index\nx;a, b;1.png\nx;;2.png\ny;;3.png\ny;;4.png\n", id="semicolons"),
        pytest.param("id\timage_id\tdx\n0\t1\tx\n0\t2\tx\n0\t3\ty\n0\t4\ty\n;;\n".replace(";;", "\t\t"), id="tabs, no suffix"),
        pytest.param("file,class_id,class_name\n1.png,0,x\n2.png,0,x\n3.png,1,y\n4.png,1,y\n", id="names before numbers"),
        pytest.param(
            'path,category\n"./1.png",x\nC:\\photos\\2.png,x\nold/3.png,y\n/home/she/4.png,y\n', id="paths of elsewhere"
        ),
    ],
)
@pytest.mark.parametrize("inside", ["", "images/"])
def test_a_csv_file_says_what_images_show(tmp_path, text, inside):
    write_flat(tmp_path, [f"{inside}{name}" for name in FLAT])
    (tmp_path / "list.csv").write_text(text, "utf-8")
    source = folder(tmp_path)
    assert source.parts == ("all",)
    assert found(source) == {"x": [0, 1], "y": [2, 3]}
    assert source.files("all")[0] == tmp_path / "list.csv"


def test_a_csv_file_may_name_absolute_paths_and_lie_elsewhere(tmp_path):
    root = write_flat(tmp_path / "photos", FLAT)
    lines = ["file,class", *(f"{root / name},{label}" for name, label in zip(FLAT, "xxyy", strict=True))]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    assert found(folder(root, csv=str(tmp_path / "list.csv"))) == {"x": [0, 1], "y": [2, 3]}


def test_other_columns_are_there_for_tasks_row_by_row(tmp_path):
    write_flat(tmp_path, FLAT)
    (tmp_path / "list.csv").write_text(
        "Patient ID,file,class,class_id,Age (y)\n7,4.png,x,0,30\n8,1.png,x,0,\n7,2.png,y,1\n9,3.png,y,1,5\n"
    )
    source = folder(tmp_path)
    assert found(source) == {"x": [0, 3], "y": [1, 2]}
    assert source.columns("all") == {
        "patient": ["8", "7", "7", "9"],
        "class_id": ["0", "0", "1", "1"],
        "age_y": ["", "30", "", "5"],
    }


def test_a_column_may_be_the_split(tmp_path):
    write_flat(tmp_path, [f"{i}.png" for i in range(6)])
    text = "split,file,class\ntrain,0.png,a\ntrain,1.png,a\nvalid,2.png,b\nvalid,3.png,b\nTEST,4.png,c\nTEST,5.png,c\n"
    (tmp_path / "list.csv").write_text(text)
    source = folder(tmp_path)
    assert source.parts == ("train", "val", "test")
    assert found(source, "val") == {"b": [2, 3]}
    assert folder(tmp_path, split_column=False).parts == ("all",)
    (tmp_path / "list.csv").write_text(text.replace("valid", "fold 3"))
    assert "line 4: 'fold 3' is no part of a split" in refusal(lambda: folder(tmp_path).parts)


def test_columns_may_be_named(tmp_path):
    write_flat(tmp_path, FLAT)
    (tmp_path / "list.csv").write_text("what,where\nx,1.png\nx,2.png\ny,3.png\ny,4.png\n")
    assert found(folder(tmp_path, csv="list.csv", file_column="where", class_column="what")) == {"x": [0, 1], "y": [2, 3]}
    message = refusal(lambda: folder(tmp_path, csv="list.csv", file_column="where").parts)
    assert "has no column class (it has what, where); name it with data.source.class_column=NAME" in message
    message = refusal(lambda: folder(tmp_path, csv="list.csv", file_column="there").parts)
    assert "data.source.file_column=there is no column; choose one of: what, where" in message


def test_a_csv_file_finds_images_behind_links(tmp_path):
    """A folder that links to a copy which a group shares; a link to a folder above has no end."""
    write_flat(tmp_path / "shared/deep", ["1.png", "2.png"])
    root = tmp_path / "root"
    root.mkdir()
    (root / "images").symlink_to(tmp_path / "shared")
    (root / "again").symlink_to(root)
    (root / "list.csv").write_text("file,class\n1.png,x\n2.png,y\n")
    assert found(folder(root)) == {"x": [0], "y": [1]}


def test_a_csv_file_that_divides_images_as_folders_do_adds_its_columns(tmp_path):
    write_classes(tmp_path)
    rows = [f"{label}/{label} {i}.JPG,class {label},{i}" for label, count in CLASSES.items() for i in range(count)]
    (tmp_path / "list.csv").write_text("\n".join(["file,class,patient", *rows]), "utf-8")
    source = folder(tmp_path)
    assert list(found(source)) == ["class Dog", "class a cat", "class Élan"]
    assert source.columns("all")["patient"] == [*"01", *"012", *"0123"]
    assert list(found(folder(tmp_path, csv=False))) == ["Dog", "a cat", "Élan"]


def test_a_csv_file_that_divides_images_otherwise_is_refused(tmp_path):
    """As a list of predictions would."""
    write_classes(tmp_path)
    (tmp_path / "list.csv").write_text("file,class\nDog/Dog 0.JPG,x\nDog/Dog 1.JPG,y\n")
    message = refusal(lambda: folder(tmp_path).parts)
    assert "choose data.source.csv=list.csv or data.source.csv=false" in message
    assert found(folder(tmp_path, csv="list.csv")) == {"x": [4], "y": [5]}


def test_two_csv_files_are_refused(tmp_path):
    write_flat(tmp_path, FLAT)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("file,class\n1.png,x\n")
    (tmp_path / "c.csv").write_text("other,things\n")
    assert "b.csv both list images; choose one with data.source.csv=a.csv" in refusal(lambda: folder(tmp_path).parts)


def test_images_that_are_listed_and_missing_are_refused_or_left_out(tmp_path, caplog):
    write_flat(tmp_path, FLAT)
    (tmp_path / "list.csv").write_text("file,class\n1.png,x\n2.png,x\n3.png,y\n4.png,y\n5.png,y\n6.png,y\n")
    message = refusal(lambda: folder(tmp_path).parts)
    assert "lists 2 images that are not there (first: 5.png)" in message
    assert "data.allow_partial=true" in message
    with caplog.at_level(logging.INFO):
        assert found(folder(tmp_path, allow_partial=True)) == {"x": [0, 1], "y": [2, 3]}
    assert "2 listed images are missing" in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,class\n1.png,\n", "line 2: '1.png' of class '' is no image and class"),
        ("file,class\n1.png,x\n1.png,x\n", "lines 2 and 3 list the same image"),
        ("file,class\n1.png,x\n./1.png,y\n", "lines 2 and 3 list the same image"),
        ("file,class\nx.png,y\n", "x.png may be "),
        ('file,class\n"' + "x" * 200_000 + '",y\n', "cannot be read"),
    ],
)
def test_a_line_that_makes_no_sense_is_refused(tmp_path, text, words):
    write_flat(tmp_path, [*FLAT, "a/x.png", "b/x.png"])
    (tmp_path / "list.csv").write_text(text)
    assert words in refusal(lambda: folder(tmp_path, csv="list.csv").parts)


def test_a_missing_csv_file_is_refused(tmp_path):
    write_flat(tmp_path, FLAT)
    assert f"{tmp_path / 'no.csv'} is missing" in refusal(lambda: folder(tmp_path, csv="no.csv").parts)


# Pixels and preparing


def test_images_are_brought_to_one_shape(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "x.png").write_bytes(image_bytes(photo(1)[:40]))
    cropped, stretched = (next(folder(tmp_path, image_shape=(3, 20, 20), crop=crop).images("all"))[0] for crop in (True, False))
    image = Image.fromarray(photo(1)[:40])
    for images, box in ((cropped, (22, 0, 62, 40)), (stretched, None)):
        np.testing.assert_array_equal(images.transpose(1, 2, 0), image.resize((20, 20), Image.Resampling.LANCZOS, box))
    assert next(folder(tmp_path, image_shape=(1, 20, 20)).images("all")).shape == (1, 1, 20, 20)
    assert "must have 1 channel, grey, or 3, colour" in refusal(folder, tmp_path, image_shape=(2, 8, 8))


def test_an_image_that_cannot_be_decoded_is_named(tmp_path):
    write_classes(tmp_path / "own")
    broken = tmp_path / "own" / "Dog" / "Dog 1.JPG"
    broken.write_bytes(b"no image")
    assert refusal(prepare, folder(tmp_path / "own"), "all", tmp_path / "cache", silent).startswith(
        f"{broken} cannot be decoded"
    )


def test_a_class_that_was_renamed_is_prepared_anew(tmp_path):
    """Its images keep their names and times."""
    root = write_classes(tmp_path / "own", {"a": 2, "b": 2})
    before = prepare(folder(root), "all", tmp_path / "cache", silent)
    assert find(folder(root), "all", tmp_path / "cache") == before
    (root / "b").rename(root / "c")
    assert find(folder(root), "all", tmp_path / "cache") is None
    assert [c.name for c in prepare(folder(root), "all", tmp_path / "cache", silent).classes] == ["a", "c"]


# Splits


def table_of_classes(count: int) -> Table:
    return Table({CLASS: Column.of([f"class {i:02d}" for i in range(count)] * 2)})


def test_a_folder_s_own_split_comes_before_shares_of_its_classes(tmp_path):
    write_classes(tmp_path / "own")
    for part in SPLITS:
        write_classes(tmp_path / "split" / part, {f"{part} {i}": 2 for i in range(2)})
    split = OwnOrFractions()
    assert split.of(folder(tmp_path / "own").parts) == split
    assert split.of(folder(tmp_path / "split").parts) == Published()


@pytest.mark.parametrize(
    ("classes", "least", "sizes"), [(10, 3, (4, 3, 3)), (9, 3, (3, 3, 3)), (40, 5, (24, 8, 8)), (16, [2, 5], (6, 5, 5))]
)
def test_every_part_has_the_classes_of_a_task(classes, least, sizes):
    table, split = table_of_classes(classes), OwnOrFractions(least=least)
    parts = {part: set(table.select(split.rows(part, table)).classes) for part in SPLITS}
    assert tuple(len(names) for names in parts.values()) == sizes
    assert set().union(*parts.values()) == set(table.classes)


def test_too_few_classes_for_three_parts_are_refused():
    table = table_of_classes(8)
    message = refusal(OwnOrFractions(least=3).rows, "train", table)
    assert "data.eval.ways=3 needs as many classes in each of train, val and test, but there are 8 in all" in message
    assert "data.ways<=2" in message
    message = refusal(OwnOrFractions(least=3).rows, "train", table_of_classes(5))  # one class a part is no task
    assert message.endswith("there are 5 in all; add classes, or let predict.py learn them")
