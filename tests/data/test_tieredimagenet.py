"""Tests of tieredImageNet: each form that people have gives the same classes and pictures, or says what it lacks."""

import logging
import pickle

import numpy as np
import pytest

from fewshot.data.images import miniimagenet, tieredimagenet
from fewshot.data.images.tieredimagenet import TieredImageNet
from fewshot.data.parts import class_tasks
from fewshot.data.published import listed, published_classes
from tests.data.fakes import (
    data_module,
    image_bytes,
    photo_names,
    refusal,
    unfolding,
    write_csv,
    write_photo_zip,
    write_tar,
    write_zip,
)

SHAPE = (3, 84, 84)
NAMES = listed("lists", "imagenet_names")
CLASSES = {part: list(names) for part, names in published_classes("tieredimagenet", "ren").items()}
FEW = CLASSES["val"][:3][::-1]
"""Not in the order of their names, as in the published files."""


def colour(number: int) -> np.ndarray:
    """An 84x84 picture of one colour that is its number, another one in each channel."""
    return np.broadcast_to(np.array([number, 100 + number, 200], np.uint8), (84, 84, 3))


def source(root, **options):
    return TieredImageNet(str(root), SHAPE, **{"allow_partial": True, **options})


def colours(source, part="val"):
    """Class -> the red of its pictures, whose green must fit."""
    found = {}
    for entry, images in zip(source.classes(part), source.images(part), strict=True):
        np.testing.assert_array_equal(images[:, 1, 0, 0], 100 + images[:, 0, 0, 0])
        assert (images[:, 2] == 200).all()
        found[entry.name] = images[:, 0, 0, 0].tolist()
    return found


EXPECTED = {wnid: [number, 10 + number] for number, wnid in enumerate(FEW)}
LABELS = [0, 1, 2, 0, 1, 2]
PICTURES = [colour(number) for number in (0, 1, 2, 10, 11, 12)]


def ren_labels(wnids=FEW, labels=LABELS, as_bytes=False):
    phrases = [NAMES[wnid].encode() if as_bytes else NAMES[wnid] for wnid in wnids]
    content = {
        "label_specific": np.array(labels, np.int32),
        "label_general": np.zeros(len(labels), np.int32),
        "label_specific_str": phrases,
        "label_general_str": ["instrument"],
    }
    return {key.encode() if as_bytes else key: value for key, value in content.items()}


def png_arrays(pictures, shape):
    return [np.frombuffer(image_bytes(picture), np.uint8).reshape(shape) for picture in pictures]


def save(path, content, protocol=4):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=protocol))


# Forms


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("as_bytes", [False, True], ids=["str", "bytes"])
@pytest.mark.parametrize("shape", [(-1, 1), (-1,)], ids=["columns", "flat"])
@pytest.mark.parametrize("prefix", ["tiered-imagenet/", "tieredimagenet/tiered-imagenet-", "tieredimagenet/"])
def test_pickles_of_png_files(tmp_path, protocol, as_bytes, shape, prefix):
    save(tmp_path / f"{prefix}val_images_png.pkl", png_arrays(PICTURES, shape), protocol)
    save(tmp_path / f"{prefix}val_labels.pkl", ren_labels(as_bytes=as_bytes), protocol)
    data = source(tmp_path)
    assert colours(data) == EXPECTED
    assert sorted(path.name for path in data.files("val")) == sorted(
        f"{prefix}val_{name}.pkl".rpartition("/")[2] for name in ("images_png", "labels")
    )


@pytest.mark.parametrize(("write", "name"), [(write_zip, "any.zip"), (write_tar, "tiered-imagenet.tar")])
def test_pickles_in_an_archive(tmp_path, write, name):
    content = {"images_png": png_arrays(PICTURES, (-1, 1)), "labels": ren_labels()}
    write(tmp_path / name, {f"tiered-imagenet/val_{name}.pkl": pickle.dumps(of) for name, of in content.items()})
    assert colours(source(tmp_path)) == EXPECTED


@pytest.mark.parametrize("save_npz", [np.savez, np.savez_compressed])
def test_arrays_are_blue_green_red(tmp_path, save_npz):
    save_npz(tmp_path / "val_images.npz", images=np.stack(PICTURES)[..., ::-1])
    save(tmp_path / "val_labels.pkl", ren_labels())
    assert colours(source(tmp_path)) == EXPECTED


@pytest.mark.parametrize("kind", [int, np.int64])
def test_classes_that_have_numbers_alone_are_called_by_part_and_number(tmp_path, kind, caplog):
    """As MetaOptNet's, which need not begin at 0."""
    np.savez(tmp_path / "val_images.npz", images=np.stack(PICTURES)[..., ::-1])
    save(tmp_path / "val_labels.pkl", {"labels": [kind(351 + label) for label in LABELS]})
    with caplog.at_level(logging.INFO):
        assert colours(source(tmp_path)) == {f"val {351 + number}": levels for number, levels in enumerate(EXPECTED.values())}
    assert "3 classes, without names: nothing tells whether a checkpoint has seen them, 6 images" in caplog.text


def write_folders(root, folder_of, name="{:02d}.png"):
    for wnid, levels in EXPECTED.items():
        for level in levels:
            path = root / folder_of(wnid) / name.format(level)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image_bytes(colour(level)))


@pytest.mark.parametrize(
    "folder_of",
    [
        pytest.param(lambda wnid: f"tiered_imagenet/val/{wnid}", id="part"),
        pytest.param(lambda wnid: f"x/meta-val/{wnid}", id="meta"),
        pytest.param(lambda wnid: f"train/{wnid}", id="ilsvrc"),
        pytest.param(lambda wnid: wnid, id="alone"),
        pytest.param(lambda wnid: f"val/{NAMES[wnid]}", id="name"),
        pytest.param(lambda wnid: f"val/{NAMES[wnid].split(',')[0].replace(' ', '_')}", id="first word"),
    ],
)
def test_folders_of_classes(tmp_path, folder_of):
    write_folders(tmp_path, folder_of)
    write_zip(tmp_path / "more.zip", {"val/._n02099267/x.png": b"", "val/n00000000/1.png": b"no class of it"})
    assert colours(source(tmp_path)) == EXPECTED


def test_validation_images_of_ilsvrc_are_not_taken(tmp_path):
    write_folders(tmp_path, lambda wnid: f"ILSVRC/train/{wnid}", "x_{:02d}.JPEG")
    write_folders(tmp_path, lambda wnid: f"ILSVRC/val/{wnid}", "y_{:02d}.JPEG")
    assert colours(source(tmp_path)) == EXPECTED


def test_a_smaller_copy_beside_a_data_set_is_not_added_to_it(tmp_path):
    """Else an image would be on both sides of a task."""
    write_folders(tmp_path, lambda wnid: f"tiered/val/{wnid}")
    write_folders(tmp_path, lambda wnid: f"copy/val/{wnid}")
    (tmp_path / "copy/val" / FEW[0] / "00.png").unlink()
    assert colours(source(tmp_path)) == EXPECTED


def test_folders_of_numbers_are_classes_of_their_part(tmp_path):
    for part in ("train", "val"):
        write_folders(tmp_path / part, lambda wnid: f"7_{FEW.index(wnid)}")
    assert colours(source(tmp_path)) == {f"val {number:03d}": levels for number, levels in enumerate(EXPECTED.values())}


# Whole or partial


@pytest.fixture
def one_image(monkeypatch):
    """Parts of one image a class."""
    monkeypatch.setattr(tieredimagenet, "IMAGES", {part: len(names) for part, names in CLASSES.items()})


def write_part(root, part, left_out=0):
    wnids = CLASSES[part][left_out:]
    save(root / f"{part}_images_png.pkl", png_arrays([colour(7)] * len(wnids), (-1, 1)))
    save(root / f"{part}_labels.pkl", ren_labels(wnids, range(len(wnids))))


def test_a_whole_part_has_the_published_classes(tmp_path, one_image):
    write_part(tmp_path, "val")
    data = source(tmp_path, allow_partial=False)
    assert (data.name, [c.name for c in data.classes("val")]) == ("tieredimagenet-ren", CLASSES["val"])
    message = refusal(data.classes, "test")
    assert "holds no test image of tieredimagenet-ren; put there PART_images_png.pkl" in message
    assert "test=false" in message


def test_what_is_not_whole_is_refused(tmp_path, one_image, monkeypatch):
    write_part(tmp_path, "val", left_out=2)
    message = refusal(source(tmp_path, allow_partial=False).classes, "val")
    assert f"lacks 2 of the 97 val classes of tieredimagenet-ren (first: {CLASSES['val'][0]})" in message
    assert len(source(tmp_path).classes("val")) == 95
    write_part(tmp_path, "val")
    monkeypatch.setattr(tieredimagenet, "IMAGES", {"val": 124_261})
    assert "has 97 val images of tieredimagenet-ren instead of 124,261" in refusal(
        source(tmp_path, allow_partial=False).classes, "val"
    )


def test_classes_of_another_part_are_not_taken(tmp_path):
    save(tmp_path / "val_images_png.pkl", png_arrays(PICTURES, (-1, 1)))
    save(tmp_path / "val_labels.pkl", ren_labels([*FEW[:2], CLASSES["test"][0]]))
    assert list(colours(source(tmp_path))) == sorted(FEW[:2])


# Classes that a checkpoint has seen


def test_classes_of_mini_imagenet_are_known_again(tmp_path, one_image):
    """13 of the classes that mini-ImageNet trains on are tested here."""
    write_part(tmp_path, "test")
    module = data_module(source(tmp_path, allow_partial=False), tmp_path / "cache")
    mini = published_classes("miniimagenet", "ravi")["train"]
    module.trained_on = {"source": "miniimagenet-ravi", "classes": list(mini), "split": {"rule": "published"}}
    assert "the checkpoint was trained on 13 of the 160 test classes (n02105505, " in refusal(module.check, ["test"])


def test_mini_imagenet_is_not_trained_on_to_test_these(tmp_path, one_image, monkeypatch):
    monkeypatch.setattr(miniimagenet, "IMAGES_PER_CLASS", 2)
    write_part(tmp_path, "test")
    write_csv(tmp_path / "miniimagenet/train.csv", photo_names("train", 2))
    write_photo_zip(tmp_path / "miniimagenet/images.zip", photo_names("train", 2))
    tiered = class_tasks(source(tmp_path, allow_partial=False), 2, 1, 1)
    module = data_module(miniimagenet.MiniImageNet(str(tmp_path)), tmp_path / "cache", ways=2, queries=1, test=tiered)
    assert "the train and test splits share 13 of their classes" in refusal(module.check, ["train", "test"])


# Broken


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (PICTURES[:5], ren_labels(), "has 5 images, and there are labels of 6"),
        ({"a": 1}, ren_labels(), "holds dict instead of a list of PNG files"),
        (["no", *PICTURES[1:]], ren_labels(), "image 0 cannot be read (it is str instead of an array of bytes)"),
        (PICTURES, ren_labels(labels=[0, 1, 2, 0, 1, 3]), "val_labels.pkl: a label is 3, which has no name"),
        (PICTURES, ren_labels(labels=[0, 1, 2, 0, 1, -1]), "a label is -1, which has no name"),
        (PICTURES, {"label_specific": LABELS}, "has no label_specific_str, the names of the classes"),
        (PICTURES, {"label_specific": LABELS, "label_specific_str": [unfolding()]}, "has list as the name of a class"),
        (PICTURES, {"label_specific": LABELS, "label_specific_str": ["abacus", "x"]}, "names a class 'x', which is none"),
        (PICTURES, {"labels": [[1], [1, 2]]}, "has no list of labels that are whole numbers"),
        (PICTURES, {"labels": range(10**30)}, "has no list of labels that are whole numbers"),
        (PICTURES, {"labels": range(2**60)}, "has no list of labels that are whole numbers"),
        (PICTURES, {"labels": 1.5}, "has no list of labels that are whole numbers"),
        (PICTURES, {}, "has no list of labels that are whole numbers"),
        (PICTURES, [1], "val_labels.pkl holds list instead of a dict"),
    ],
)
def test_broken_pickles_are_refused(tmp_path, images, labels, said):
    if isinstance(images, list):
        images = [one if isinstance(one, str) else png_arrays([one], (-1, 1))[0] for one in images]
    save(tmp_path / "val_images_png.pkl", images)
    save(tmp_path / "val_labels.pkl", labels)
    assert said in refusal(lambda: (source(tmp_path).classes("val"), list(source(tmp_path).images("val"))))


def test_arrays_of_another_kind_are_refused(tmp_path):
    np.savez(tmp_path / "val_images.npz", images=np.zeros((6, 84, 84, 3), np.float32))
    save(tmp_path / "val_labels.pkl", ren_labels())
    assert "holds float32 (6, 84, 84, 3) instead of images of uint8" in refusal(lambda: list(source(tmp_path).images("val")))
    (tmp_path / "val_labels.pkl").unlink()
    assert "val_labels.pkl cannot be read (No such file or directory); put it there" in refusal(source(tmp_path).classes, "val")


# Real data


@pytest.mark.real_data
def test_the_real_sample(data_dir):
    data = source(data_dir)
    assert [len(data.classes(part)) for part in data.parts] == [12, 8, 10]
    assert {"n02099601", "n02666196"} <= {c.name for c in data.classes("val")}
    assert all(of_class.std(axis=(0, 2, 3)).min() > 10 for of_class in data.images("val"))
