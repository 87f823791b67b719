"""Tests of mini-ImageNet: the same arrays from every form, and files that are missing, wrong or hostile."""

import io
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from fewshot.data.files.archives import open_zip
from fewshot.data.images import miniimagenet
from fewshot.data.images.miniimagenet import MiniImageNet
from fewshot.data.published import listed
from tests.data.fakes import (
    PHOTOS,
    data_module,
    image_bytes,
    photo,
    photo_names,
    refusal,
    split_list,
    unfolding,
    write_csv,
    write_photo_folder,
    write_photo_pickle,
    write_photo_zip,
    write_zip,
)

VAL = photo_names("val")
COUNT = {"train": 64, "val": 16, "test": 20}


@pytest.fixture(scope="module")
def zipped(tmp_path_factory):
    """A whole validation split: csv files and a zip archive."""
    folder = tmp_path_factory.mktemp("zipped") / "miniimagenet"
    write_csv(folder / "val.csv", VAL)
    write_csv(folder / "train.csv", photo_names("train"))
    write_csv(folder / "test.csv", photo_names("test"))
    write_photo_zip(folder / "images.zip", VAL)
    return folder.parent


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The same pictures in a folder, and only a validation list beside an empty training list."""
    folder = tmp_path_factory.mktemp("unpacked")
    write_csv(folder / "val.csv", VAL)
    write_csv(folder / "train.csv", [])
    write_photo_folder(folder / "images", VAL)
    return folder


def of_rows(tmp_path, rows, split="val", header=("filename", "label")):
    """A source whose list of a split is `rows`, with the pictures of the true validation split's first classes."""
    write_csv(tmp_path / "train.csv", [])
    write_csv(tmp_path / f"{split}.csv", rows, header)
    write_photo_zip(tmp_path / "images.zip", rows)
    return MiniImageNet(str(tmp_path))


def of_pickle(tmp_path, content, name="mini-imagenet-cache-val.pkl"):
    (tmp_path / name).write_bytes(pickle.dumps(content, protocol=4))
    return MiniImageNet(str(tmp_path))


def small_pickle(**changes):
    return {"image_data": np.stack([photo(i) for i in range(4)]), "class_dict": {"n01": [0, 1], "n02": [2, 3]}} | changes


@pytest.fixture
def six_images(monkeypatch):
    """Classes of 6 images instead of 600."""
    monkeypatch.setattr(miniimagenet, "IMAGES_PER_CLASS", 6)


# Forms


@pytest.mark.parametrize("form", ["zipped", "unpacked"])
def test_csv_forms_give_every_class_of_the_split(form, request):
    source = MiniImageNet(str(request.getfixturevalue(form)))
    classes = source.classes("val")
    assert [c.name for c in classes] == sorted(split_list("miniimagenet_ravi")["val"])
    assert {c.size for c in classes} == {600}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["zipped", "unpacked"])
def test_csv_forms_give_the_pictures_in_the_order_of_the_list(form, request):
    images = MiniImageNet(str(request.getfixturevalue(form))).images("val")
    expected = np.stack([photo(i) for i in range(PHOTOS)]).transpose(0, 3, 1, 2)
    for number in range(2):
        first = next(images)
        assert first.shape == (600, 3, 84, 84)
        assert first.dtype == np.uint8
        np.testing.assert_array_equal(first, expected[(np.arange(600) + 600 * number) % PHOTOS])


def test_pickles_give_the_same_arrays_as_csv_files(tmp_path, six_images):
    rows = photo_names("val", 6)
    write_photo_pickle(tmp_path / "pickled" / "miniimagenet" / "mini-imagenet-cache-validation.pkl", rows)
    pickled = MiniImageNet(str(tmp_path / "pickled"))
    (tmp_path / "listed").mkdir()
    listed = of_rows(tmp_path / "listed", rows)
    assert pickled.classes("val") == listed.classes("val")
    np.testing.assert_array_equal(list(pickled.images("val")), list(listed.images("val")))


@pytest.mark.slow
def test_a_pickle_of_full_size_gives_the_same_arrays_as_csv_files(tmp_path, zipped):
    write_photo_pickle(tmp_path / "mini-imagenet-cache-val.pkl", VAL)
    pickled, listed = MiniImageNet(str(tmp_path)), MiniImageNet(str(zipped))
    assert pickled.classes("val") == listed.classes("val")
    for ours, theirs in zip(pickled.images("val"), listed.images("val"), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_rows_of_a_pickle_may_lie_anyhow(tmp_path, six_images):
    labels = sorted(split_list("miniimagenet_ravi")["val"])
    shuffled = np.random.Generator(np.random.PCG64(0)).permutation(96).reshape(16, 6)
    data = np.arange(96, dtype=np.uint8)[:, None, None, None] * np.ones((1, 84, 84, 3), dtype=np.uint8)
    source = of_pickle(tmp_path, {"image_data": data, "class_dict": dict(zip(labels, shuffled.tolist(), strict=True))})
    np.testing.assert_array_equal(np.stack(list(source.images("val")))[:, :, 0, 0, 0], shuffled)


def test_csv_files_come_before_pickles(tmp_path, six_images):
    source = of_rows(tmp_path, photo_names("val", 6))
    (tmp_path / "mini-imagenet-cache-val.pkl").write_bytes(b"no pickle")
    assert len(source.classes("val")) == 16


def test_files_are_the_list_and_the_archives_in_use(zipped):
    assert [path.name for path in MiniImageNet(str(zipped)).files("val")] == ["val.csv", "images.zip"]


def test_an_image_of_another_size_is_resized(tmp_path, six_images):
    rows = photo_names("val", 6)
    source = of_rows(tmp_path, rows)
    big = np.kron(photo(0), np.ones((2, 2, 1), dtype=np.uint8))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / rows[0][0]).write_bytes(image_bytes(big))
    expected = np.asarray(Image.fromarray(big).resize((84, 84), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(next(source.images("val"))[0].transpose(1, 2, 0), expected)


# Lists and folders as people have them


def in_class_folders(folder, rows):
    """The pictures, each in a folder of its class."""
    for i, (name, label) in enumerate(rows):
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / name).write_bytes(image_bytes(photo(i % PHOTOS)))


def expected_images(rows):
    return np.stack([photo(i % PHOTOS) for i in range(len(rows))]).reshape(16, 6, 84, 84, 3).transpose(0, 1, 4, 2, 3)


FOUND = photo_names("val", 6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "listed",
    [
        pytest.param("{name}.jpg", id="name"),
        pytest.param("{label}/{name}.jpg", id="below images"),
        pytest.param("images/{label}/{name}.jpg", id="path"),
        pytest.param(".\\images\\{label}\\{name}.jpg", id="backslashes"),
        pytest.param("elsewhere/{name}.jpg", id="another folder"),
        pytest.param("{name}.JPEG", id="another suffix"),
    ],
)
@pytest.mark.parametrize("packed", [False, True], ids=["folders", "zip"])
def test_class_folders_beside_a_list_are_searched(tmp_path, six_images, listed, packed):
    write_csv(tmp_path / "val.csv", [(listed.format(name=name[:-4], label=label), label) for name, label in FOUND])
    if packed:
        pictures = {f"images/{label}/{name}": image_bytes(photo(i % PHOTOS)) for i, (name, label) in enumerate(FOUND)}
        write_zip(tmp_path / "images.zip", pictures)
    else:
        in_class_folders(tmp_path / "images", FOUND)
    np.testing.assert_array_equal(list(MiniImageNet(str(tmp_path)).images("val")), expected_images(FOUND))


def test_a_name_that_each_class_has_is_looked_for_in_the_folder_of_its_class(tmp_path, six_images):
    rows = [(f"{i % 6}.jpg", label) for i, (_, label) in enumerate(FOUND)]
    in_class_folders(tmp_path / "images", rows)
    write_csv(tmp_path / "val.csv", [(f"{label}/{name}", label) for name, label in rows])
    np.testing.assert_array_equal(list(MiniImageNet(str(tmp_path)).images("val")), expected_images(rows))


def test_an_image_in_the_folder_of_another_class_is_not_taken(tmp_path, six_images):
    moved = [(FOUND[0][0], FOUND[-1][1]), *FOUND[1:]]
    in_class_folders(tmp_path / "images", moved)
    write_csv(tmp_path / "val.csv", FOUND)
    assert f"lacks 1 of the 96 images of the val split (first: {FOUND[0][0]})" in refusal(
        MiniImageNet(str(tmp_path)).classes, "val"
    )


def test_two_images_of_one_name_are_refused(tmp_path, six_images):
    in_class_folders(tmp_path / "images", FOUND)
    (tmp_path / "images" / FOUND[0][0]).write_bytes(image_bytes(photo(3)))
    write_csv(tmp_path / "val.csv", FOUND)
    assert f"{FOUND[0][0]} of class {FOUND[0][1]} may be " in refusal(MiniImageNet(str(tmp_path)).classes, "val")


def test_two_names_of_one_image_are_refused(tmp_path, six_images):
    """Else it could be support and query image of one task."""
    in_class_folders(tmp_path / "images", FOUND)
    name, label = FOUND[0]
    write_csv(tmp_path / "val.csv", [*FOUND[:1], (f"images/{label}/{name}", label), *FOUND[2:]])
    assert "are one image" in refusal(MiniImageNet(str(tmp_path)).classes, "val")


@pytest.mark.parametrize("same", [True, False])
def test_an_image_in_two_archives_must_be_the_same(tmp_path, six_images, same):
    source = of_rows(tmp_path, FOUND)
    write_zip(tmp_path / "later.zip", {f"images/{FOUND[0][0]}": image_bytes(photo(0 if same else 5))})
    if same:
        np.testing.assert_array_equal(list(source.images("val")), expected_images(FOUND))
    else:
        assert "images.zip" in (message := refusal(source.classes, "val"))
        assert "later.zip" in message


def test_an_unfinished_archive_beside_whole_data_does_not_matter(tmp_path, six_images):
    source = of_rows(tmp_path, FOUND)
    (tmp_path / "other.zip").write_bytes(b"PK\x03\x04 and no more")
    assert len(source.classes("val")) == 16


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b""], ids=["byte-order mark", "none"])
def test_a_list_saved_by_a_spreadsheet_is_read(tmp_path, six_images, start):
    source = of_rows(tmp_path, FOUND)
    lines = "\r\n".join(["filename, label, note", *(f"{name}, {label}, x" for name, label in FOUND), ""])
    (tmp_path / "val.csv").write_bytes(start + lines.encode())
    assert len(source.classes("val")) == 16


def test_the_lists_of_the_splits_in_use_are_enough(tmp_path, six_images):
    """As to evaluate a checkpoint."""
    source = of_rows(tmp_path, FOUND)
    (tmp_path / "train.csv").unlink()
    assert len(source.classes("val")) == 16
    assert f"{tmp_path / 'train.csv'} is missing" in refusal(source.classes, "train")


@pytest.mark.parametrize("folder", ["val", "validation", "valid"])
def test_a_folder_for_each_class_of_a_split_is_enough(tmp_path, six_images, folder):
    in_class_folders(tmp_path / folder, FOUND)
    (tmp_path / folder / FOUND[0][1] / ".DS_Store").write_bytes(b"")
    source = MiniImageNet(str(tmp_path))
    np.testing.assert_array_equal(list(source.images("val")), expected_images(FOUND))
    assert len(source.files("val")) == 96
    assert "test=false" in refusal(source.classes, "test")


NAMES = listed("lists", "imagenet_names")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file_of", "packed"),
    [
        pytest.param(lambda label, number: f"mini/meta-val/{label}/{number}.jpg", False, id="deeper"),
        pytest.param(lambda label, number: f"mini/val/{label}/{number}.jpg", True, id="in an archive"),
        pytest.param(lambda label, number: f"{label}/{number}.jpg", False, id="no folders of splits"),
        pytest.param(lambda label, number: f"val/{NAMES[label]}/{number}.jpg", False, id="names"),
        pytest.param(lambda label, number: f"{NAMES[label].split(',')[0]}/{number}.jpg", True, id="first words"),
        pytest.param(lambda label, number: f"ILSVRC/train/{label}/{label}_{number}.JPEG", False, id="ILSVRC"),
        pytest.param(lambda label, number: f"val/{label}_{number}.JPEG", False, id="names of files alone"),
        pytest.param(lambda label, number: f"images/{label}{number:08d}.jpg", True, id="without lists"),
    ],
)
def test_classes_are_known_by_the_names_of_folders_or_files(tmp_path, six_images, file_of, packed):
    files = {file_of(label, i % 6): image_bytes(photo(i % PHOTOS)) for i, (_, label) in enumerate(FOUND)}
    files |= {"train/n00000000/1.jpg": b"no class of it", "._x.jpg": b""}
    if packed:
        write_zip(tmp_path / "mini-imagenet/all.zip", files)
    else:
        for name, data in files.items():
            (tmp_path / "mini-imagenet" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "mini-imagenet" / name).write_bytes(data)
    source = MiniImageNet(str(tmp_path))
    np.testing.assert_array_equal(list(source.images("val")), expected_images(FOUND))
    assert "has no folder of any test class" in refusal(source.classes, "test")


@pytest.mark.parametrize("form", ["list", "folders", "pickle"])
def test_fewer_classes_and_images_are_accepted_when_asked_for(tmp_path, form):
    rows = photo_names("val", 6)[2:20]
    if form == "list":
        write_csv(tmp_path / "val.csv", photo_names("val", 6))
        write_photo_zip(tmp_path / "images.zip", rows)
    elif form == "folders":
        in_class_folders(tmp_path / "val", rows)
    else:
        write_photo_pickle(tmp_path / "mini-imagenet-cache-val.pkl", rows)
    source = MiniImageNet(str(tmp_path), allow_partial=True)
    assert source.name == "miniimagenet-ravi-partial"
    assert [c.size for c in source.classes("val")] == [4, 6, 6, 2]
    assert [len(images) for images in source.images("val")] == [4, 6, 6, 2]
    message = refusal(MiniImageNet(str(tmp_path)).classes, "val")
    assert "lacks 78 of the 96 images" in message or "not those of Ravi" in message


# Missing files


def test_an_empty_folder_is_refused_with_what_belongs_there(tmp_path):
    message = refusal(MiniImageNet(str(tmp_path)).classes, "train")
    assert f"paths.data_dir={tmp_path} holds no mini-ImageNet" in message
    assert all(form in message for form in ("train.csv", "a folder of JPEGs for each class", "mini-imagenet-cache-"))


def test_missing_test_images_are_said_with_the_way_round(zipped):
    for call in (MiniImageNet(str(zipped)).classes, MiniImageNet(str(zipped)).files):
        message = refusal(call, "test")
        assert "lacks 12000 of the 12000 images of the test split" in message
        assert "test=false" in message


def test_missing_training_images_are_no_reason_to_run_without_test(zipped):
    message = refusal(MiniImageNet(str(zipped)).classes, "train")
    assert "lacks 38400 of the 38400 images of the train split" in message
    assert photo_names("train")[0][0] in message
    assert "test=false" not in message


def test_one_missing_image_is_named(tmp_path):
    rows = photo_names("val", 6)
    write_csv(tmp_path / "train.csv", [])
    write_csv(tmp_path / "val.csv", rows)
    write_photo_zip(tmp_path / "images.zip", rows[:40] + rows[41:])
    message = refusal(MiniImageNet(str(tmp_path)).classes, "val")
    assert f"lacks 1 of the 96 images of the val split (first: {rows[40][0]})" in message


def test_a_missing_list_is_refused(unpacked):
    assert "test.csv is missing" in refusal(MiniImageNet(str(unpacked)).classes, "test")


def test_a_missing_pickle_is_refused(tmp_path):
    source = of_pickle(tmp_path, small_pickle())
    message = refusal(source.files, "test")
    assert "mini-imagenet-cache-test.pkl is missing" in message
    assert "test=false" in message
    assert "test=false" not in refusal(source.files, "train")


def test_missing_test_images_are_said_before_anything_is_prepared(zipped, tmp_path):
    module = data_module(MiniImageNet(str(zipped)), tmp_path / "cache")
    assert "test=false" in refusal(module.check, ["val", "test"])
    assert not (tmp_path / "cache").exists()
    module.check(["val"])


# Wrong files


def test_other_classes_are_refused(tmp_path, six_images):
    rows = [(name, "n99999999" if label == VAL[0][1] else label) for name, label in photo_names("val", 6)]
    message = refusal(of_rows(tmp_path, rows).classes, "val")
    assert "not those of Ravi & Larochelle" in message
    assert VAL[0][1] in message
    assert "replace the files of the val split" in message


def test_the_classes_of_another_split_are_refused(tmp_path, six_images):
    assert "the test classes" in refusal(of_rows(tmp_path, photo_names("val", 6), split="test").classes, "test")


@pytest.mark.parametrize("change", [lambda rows: rows[:-1], lambda rows: [*rows, ("one_more.jpg", rows[-1][1])]])
def test_another_number_of_images_is_refused(tmp_path, six_images, change):
    rows = change(photo_names("val", 6))
    message = refusal(of_rows(tmp_path, rows).classes, "val")
    assert f"lists {len(rows) - 90} images of val class {rows[-1][1]} instead of 6" in message


def test_an_image_listed_twice_is_refused(tmp_path, six_images):
    """Else it could be support and query image of one task."""
    rows = photo_names("val", 6)
    rows[1] = rows[0]
    assert rows[0][0] in refusal(of_rows(tmp_path, rows).classes, "val")


def test_an_image_listed_in_two_classes_is_refused(tmp_path, six_images):
    rows = photo_names("val", 6)
    rows[6] = (rows[0][0], rows[6][1])
    assert rows[0][0] in refusal(of_rows(tmp_path, rows).classes, "val")


def test_a_list_without_its_header_is_refused(tmp_path):
    message = refusal(of_rows(tmp_path, [], header=("image", "class")).classes, "val")
    assert f"{tmp_path / 'val.csv'} has no header 'filename,label'" in message


def test_an_empty_list_is_refused(tmp_path):
    source = of_rows(tmp_path, [])
    (tmp_path / "val.csv").write_bytes(b"")
    assert "has no header" in refusal(source.classes, "val")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\x01", b'filename,label\n"' + b"x" * 200_000 + b'",n01\n'])
def test_a_list_that_is_no_csv_is_refused(tmp_path, content):
    source = of_rows(tmp_path, [])
    (tmp_path / "val.csv").write_bytes(content)
    assert f"{tmp_path / 'val.csv'} cannot be read" in refusal(source.classes, "val")


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/secret.jpg", "images/../../secret.jpg", "", ".", "a\\..\\b.jpg"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
    source = of_rows(tmp_path, [])
    write_csv(tmp_path / "val.csv", [(name, "n01532829")])
    message = refusal(source.classes, "val")
    assert f"{tmp_path / 'val.csv'}, line 2" in message
    assert "replace the file" in message


@pytest.mark.parametrize("name", ["..", "two\nlines.jpg", "zero\0.jpg"])
def test_a_name_that_is_no_file_is_refused(tmp_path, name):
    source = of_rows(tmp_path, [])
    write_csv(tmp_path / "val.csv", [(name, "n01532829")])
    assert str(tmp_path) in refusal(source.classes, "val")


def test_a_row_without_label_is_refused(tmp_path):
    source = of_rows(tmp_path, [])
    (tmp_path / "val.csv").write_text("filename,label\na.jpg\n")
    assert "line 2" in refusal(source.classes, "val")


def test_an_image_that_cannot_be_decoded_is_named(tmp_path, six_images):
    rows = photo_names("val", 6)
    source = of_rows(tmp_path, rows)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / rows[3][0]).write_bytes(image_bytes(photo(1), "JPEG")[:900])
    assert rows[3][0] in refusal(lambda: next(source.images("val")))


def test_a_broken_archive_is_named(tmp_path):
    source = of_rows(tmp_path, photo_names("val", 6))
    (tmp_path / "images.zip").write_bytes(b"PK\x03\x04 and no more")
    assert f"{tmp_path / 'images.zip'} is not a whole zip archive" in refusal(source.classes, "val")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param([1, 2], id="list"),
        pytest.param({}, id="empty"),
        pytest.param(small_pickle(image_data=[1, 2]), id="images are a list"),
        pytest.param(small_pickle(image_data=np.zeros((4, 84, 84, 3))), id="images are float"),
        pytest.param(small_pickle(image_data=np.zeros((4, 3, 84, 84), dtype=np.uint8)), id="channels first"),
        pytest.param(small_pickle(class_dict=[0, 1]), id="rows are a list"),
        pytest.param(small_pickle(class_dict={}), id="no rows"),
        pytest.param(small_pickle(class_dict={"n01": []}), id="class without rows"),
        pytest.param(small_pickle(class_dict={1: [0]}), id="label is a number"),
        pytest.param(small_pickle(class_dict={"n01": [0, 1], "n02": [1, 2]}), id="row in two classes"),
        pytest.param(small_pickle(class_dict={"n01": [0, 0], "n02": [1, 2]}), id="row twice in a class"),
        pytest.param(small_pickle(class_dict={"n01": [0, 4]}), id="row beyond the end"),
        pytest.param(small_pickle(class_dict={"n01": [-1, 0]}), id="negative row"),
        pytest.param(small_pickle(class_dict={"n01": [0.5, 1.0]}), id="rows are float"),
        pytest.param(small_pickle(class_dict={"n01": 5}), id="rows are a number"),
        pytest.param(small_pickle(class_dict={"n01": "01"}), id="rows are a string"),
        pytest.param(small_pickle(class_dict={"n01": [[0], [1, 2]]}), id="rows are ragged"),
        pytest.param(small_pickle(class_dict={"n01": range(10**30)}), id="rows without an end"),
        pytest.param(small_pickle(class_dict={"n01": unfolding()}), id="rows that unfold"),
    ],
)
def test_a_pickle_of_other_content_is_refused(tmp_path, content):
    message = refusal(of_pickle(tmp_path, content).classes, "val")
    assert str(tmp_path / "mini-imagenet-cache-val.pkl") in message
    assert "download it again" in message


def test_a_pickle_may_have_bytes_as_keys(tmp_path):
    """As whoever reads Python 2's pickle without its encoding writes it again."""
    content = {key.encode(): value for key, value in small_pickle().items()}
    content[b"class_dict"] = {label.encode(): np.array(rows) for label, rows in content[b"class_dict"].items()}
    path = tmp_path / "mini-imagenet-cache-val.pkl"
    path.write_bytes(pickle.dumps(content, protocol=2))
    data, rows = miniimagenet._check_pickle(path, miniimagenet.load_dict(path))
    assert rows == small_pickle()["class_dict"]
    np.testing.assert_array_equal(data, small_pickle()["image_data"])


def test_a_pickle_of_other_classes_is_refused(tmp_path):
    assert "not those of Ravi & Larochelle" in refusal(of_pickle(tmp_path, small_pickle()).classes, "val")


# Downloading


@pytest.mark.parametrize(
    "record",
    [
        pytest.param([], id="list"),
        pytest.param({"files": None}, id="no files"),
        pytest.param({"files": [{"checksum": "md5:0"}]}, id="no key"),
        pytest.param({"files": [{"key": "mini-imagenet-cache-train.pkl", "checksum": None}]}, id="no checksum"),
        pytest.param({"files": [{"key": "mini-imagenet-cache-train.pkl", "checksum": "md5:0"}]}, id="no link"),
        pytest.param({"files": []}, id="no file"),
    ],
)
def test_a_record_of_another_shape_is_refused(tmp_path, monkeypatch, record):
    page = tmp_path / "record.json"
    page.write_text(json.dumps(record))
    monkeypatch.setattr(miniimagenet, "RECORD", page.as_uri())
    message = refusal(MiniImageNet(str(tmp_path / "data")).obtain)
    assert "set paths.data_dir=FOLDER" in message


def test_the_record_s_files_are_downloaded_and_checked(tmp_path, monkeypatch, six_images):
    from hashlib import md5

    files = []
    for split, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        path = tmp_path / "server" / f"mini-imagenet-cache-{name}.pkl"
        write_photo_pickle(path, photo_names(split, 6))
        digest = md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        files.append({"key": path.name, "checksum": f"md5:{digest}", "links": {"self": path.as_uri()}})
    page = tmp_path / "record.json"
    page.write_text(json.dumps({"files": files}))
    monkeypatch.setattr(miniimagenet, "RECORD", page.as_uri())
    source = MiniImageNet(str(tmp_path / "data"))
    source.obtain()
    for split, count in COUNT.items():
        assert len(source.classes(split)) == count


def test_nothing_is_downloaded_where_data_are(zipped, monkeypatch):
    monkeypatch.setattr(miniimagenet, "RECORD", "file:///nowhere")
    MiniImageNet(str(zipped)).obtain()


# The real data


@pytest.mark.real_data
@pytest.mark.parametrize("split", ["train", "val"])
def test_the_real_classes_are_whole(data_dir, split):
    classes = MiniImageNet(str(data_dir)).classes(split)
    assert len(classes) == COUNT[split]
    assert {c.size for c in classes} == {600}


@pytest.mark.real_data
def test_the_real_test_images_are_missing_and_it_is_said_before_anything(data_dir, tmp_path):
    module = data_module(MiniImageNet(str(data_dir)), tmp_path / "cache")
    message = refusal(module.check, ["train", "val", "test"])
    assert "images of the test split" in message
    assert "test=false" in message
    assert not (tmp_path / "cache").exists()
    module.check(["train", "val"])


@pytest.mark.real_data
def test_real_pictures_are_those_of_their_class(data_dir):
    source = MiniImageNet(str(data_dir))
    label = source.classes("val")[0].name
    rows = (data_dir / "miniimagenet" / "val.csv").read_text().split()
    names = [row.split(",")[0] for row in rows if row.endswith(label)]
    archive = open_zip(data_dir / "miniimagenet" / "miniimagenet_images_val.zip")
    images = next(source.images("val"))
    for i in (0, 300, 599):
        picture = Image.open(io.BytesIO(archive.read(f"images/{names[i]}"))).convert("RGB")
        np.testing.assert_array_equal(images[i].transpose(1, 2, 0), np.asarray(picture))
    assert len(np.unique(images.reshape(600, -1), axis=0)) == 600
