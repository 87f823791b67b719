"""Tests of CIFAR-FS and FC100: each form of CIFAR-100 that people have gives the same classes and pictures."""

import pickle

import numpy as np
import pytest

from fewshot.data.images import cifar100
from fewshot.data.images.cifar100 import FC100, CifarFS
from fewshot.data.published import listed, part_of_class, published_classes
from tests.data.fakes import image_bytes, refusal, unfolding, write_tar, write_zip

NAMES = listed("lists", "cifar100_names")
CLASSES = {CifarFS: published_classes("cifar_fs", "bertinetto"), FC100: published_classes("fc100", "tadam")}
BOTH = pytest.mark.parametrize("data_set", [CifarFS, FC100])
COPIES = {"train": 2, "test": 1}
"""Images a class in CIFAR-100's own files, here."""


def picture(label: int, number: int) -> np.ndarray:
    """A 32x32 picture that says its class and number, with a corner that says what is up and left."""
    pixels = np.full((32, 32, 3), (label, number, 200), np.uint8)
    pixels[0, :5] = 255
    return pixels


def rows(file: str) -> list[tuple[int, int]]:
    """Class and number of each image of a file of CIFAR-100's, not in order."""
    first = {"train": 0, "test": 10}[file]
    return [(label, first + number) for number in range(COPIES[file]) for label in reversed(range(100))]


def flat(file: str) -> np.ndarray:
    return np.stack([picture(label, number).transpose(2, 0, 1).reshape(-1) for label, number in rows(file)])


def python_form(protocol=2, key=str) -> dict[str, bytes]:
    files = {"meta": {"fine_label_names": NAMES, "coarse_label_names": []}}
    for file in COPIES:
        labels = [label for label, _ in rows(file)]
        files[file] = {"data": flat(file), "fine_labels": labels, "coarse_labels": labels}
    encoded = {
        name: {key(k) if key is str else k.encode(): value for k, value in content.items()} for name, content in files.items()
    }
    return {f"cifar-100-python/{name}": pickle.dumps(content, protocol=protocol) for name, content in encoded.items()}


def binary_form() -> dict[str, bytes]:
    files = {"fine_label_names.txt": "\n".join(NAMES).encode() + b"\n\n", "coarse_label_names.txt": b"x\n"}
    for file in COPIES:
        labels = np.array([(0, label) for label, _ in rows(file)], np.uint8)
        files[f"{file}.bin"] = np.concatenate([labels, flat(file)], axis=1).tobytes()
    return {f"cifar-100-binary/{name}": content for name, content in files.items()}


def write_files(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def in_folders(folder_of) -> dict[str, bytes]:
    """The images in folders, which `folder_of` the name of a class and of CIFAR-100's file names."""
    return {
        f"{folder_of(name=NAMES[label], file=file)}/{number:02d}.png": image_bytes(picture(label, number))
        for file in COPIES
        for label, number in rows(file)
    }


def found(source):
    """Part -> class -> the numbers of its pictures, which must be whole and of that class."""
    parts = {}
    for part in source.parts:
        parts[part] = {}
        for entry, images in zip(source.classes(part), source.images(part), strict=True):
            numbers = images[:, 1, 9, 9].tolist()
            pictures = np.stack([picture(NAMES.index(entry.name), number) for number in numbers])
            np.testing.assert_array_equal(images, pictures.transpose(0, 3, 1, 2))
            parts[part][entry.name] = sorted(numbers)
    return parts


def expected(data_set, numbers=(0, 1, 10)):
    return {part: {name: list(numbers) for name in names} for part, names in CLASSES[data_set].items()}


@pytest.fixture(autouse=True)
def three_images(monkeypatch):
    """Classes of 3 images instead of 600."""
    monkeypatch.setattr(cifar100, "IMAGES_PER_CLASS", 3)


# CIFAR-100's own files


@BOTH
@pytest.mark.parametrize("form", ["python", "python with bytes", "binary"])
@pytest.mark.parametrize("packed", [False, True], ids=["unpacked", "packed"])
def test_training_and_test_images_of_cifar_100_are_joined(tmp_path, data_set, form, packed):
    files = binary_form() if form == "binary" else python_form(4 if "bytes" in form else 2, bytes if "bytes" in form else str)
    if packed:
        write_tar(tmp_path / "cifar100" / f"cifar-100-{form.split()[0]}.tar.gz", files)
    else:
        write_files(tmp_path / "cifar100", files)
    source = data_set(str(tmp_path), (3, 32, 32))
    assert found(source) == expected(data_set)
    assert len(source.files("val")) == (1 if packed else 2)


def test_images_are_brought_to_another_size(tmp_path):
    write_files(tmp_path, python_form())
    images = next(CifarFS(str(tmp_path), (3, 84, 84)).images("val"))
    assert images.shape == (3, 3, 84, 84)
    assert images[0, :, 50, 50].tolist() == [NAMES.index(CLASSES[CifarFS]["val"][0]), 0, 200]


# Folders


@BOTH
@pytest.mark.parametrize(
    "folder_of",
    [
        pytest.param("cifar100/data/{name}".format, id="all in one"),
        pytest.param("{file}/{name}".format, id="images divided"),
        pytest.param("{name}".format, id="alone"),
    ],
)
def test_folders_of_classes(tmp_path, data_set, folder_of):
    """One of the classes is called train."""
    write_zip(tmp_path / "all.zip", in_folders(folder_of))
    assert found(data_set(str(tmp_path), (3, 32, 32))) == expected(data_set)


def test_a_class_of_another_data_set_with_the_same_name_is_not_taken(tmp_path):
    """EuroSAT has a forest too."""
    write_files(tmp_path, {"eurosat/2750/Forest/Forest_1.jpg": image_bytes(picture(33, 0))})
    assert "holds no train image" in refusal(CifarFS(str(tmp_path), (3, 32, 32), allow_partial=True).classes, "train")


@pytest.mark.parametrize("prefix", ["", "meta-"])
@BOTH
def test_folders_of_parts(tmp_path, data_set, prefix):
    part = part_of_class(data_set.folder, data_set.usual)
    write_zip(
        tmp_path / "cifar100/all.zip", in_folders(lambda name, **_: f"CIFAR/{prefix}{part[name]}/{name}".replace("_", " "))
    )
    assert found(data_set(str(tmp_path), (3, 32, 32))) == expected(data_set)


# A file for each part


def part_files(data_set, number_of=NAMES.index, part="val"):
    order = [(name, number) for number in (0, 1, 10) for name in CLASSES[data_set][part]]
    return np.stack([picture(NAMES.index(name), number) for name, number in order]), [number_of(name) for name, _ in order]


@pytest.mark.parametrize("kind", [int, np.int64])
@pytest.mark.parametrize(
    ("data_set", "name"), [(CifarFS, "CIFAR_FS_"), (FC100, "FC100_"), (CifarFS, "CIFAR-FS/"), (FC100, "FC100/")]
)
def test_pickles_of_parts(tmp_path, data_set, name, kind):
    for part in ("train", "val", "test"):
        data, labels = part_files(data_set, part=part)
        content = {"data": data, "labels": [kind(label) for label in labels]}
        write_files(tmp_path, {f"{name}{part}.pickle": pickle.dumps(content, protocol=2)})
    assert found(data_set(str(tmp_path), (3, 32, 32))) == expected(data_set)


def test_npz_files_of_parts(tmp_path):
    for part in ("train", "val", "test"):
        data, labels = part_files(FC100, part=part)
        np.savez(tmp_path / f"few-shot-{part}.npz", features=data, targets=np.array(labels))
    assert found(FC100(str(tmp_path), (3, 32, 32))) == expected(FC100)


def test_other_numbers_name_no_class(tmp_path):
    """CIFAR-FS's may be those of its author; FC100's are known to be CIFAR-100's."""
    for data_set, name in ((CifarFS, "CIFAR_FS"), (FC100, "FC100")):
        data, labels = part_files(data_set, CLASSES[data_set]["val"].index)
        write_files(tmp_path, {f"{name}_val.pickle": pickle.dumps({"data": data, "labels": labels})})
    data, labels = part_files(CifarFS, CLASSES[CifarFS]["val"].index)
    for folder in ("own/CIFAR-FS", "other/cifar100"):
        write_files(tmp_path / folder, {"val.pickle": pickle.dumps({"data": data, "labels": labels})})
    assert "val.pickle has labels other than" in refusal(CifarFS(str(tmp_path / "other"), (3, 32, 32)).classes, "val")
    for source in (CifarFS(str(tmp_path), (3, 32, 32)), CifarFS(str(tmp_path / "own"), (3, 32, 32))):  # RFS's, renamed
        assert [(c.name, c.size) for c in source.classes("val")] == [(f"val {number:03d}", 3) for number in range(16)]
        assert next(source.images("val"))[0, 0, 9, 9] == NAMES.index(CLASSES[CifarFS]["val"][0])
    message = refusal(FC100(str(tmp_path), (3, 32, 32)).classes, "val")
    assert "FC100_val.pickle has labels other than CIFAR-100's numbers of the val classes" in message


# Whole or partial


def test_fewer_classes_and_images_are_accepted_when_asked_for(tmp_path):
    files = {name: data for name, data in in_folders("{name}".format).items() if not name.startswith(("bear/", "cup/10"))}
    write_zip(tmp_path / "a.zip", files)
    assert "lacks 1 of the 64 train classes of cifar_fs-bertinetto (first: bear)" in refusal(
        CifarFS(str(tmp_path), (3, 32, 32)).classes, "train"
    )
    write_zip(tmp_path / "b.zip", {f"bear/{number}.png": b"" for number in range(3)})
    assert "has 2 images of cup instead of 3" in refusal(CifarFS(str(tmp_path), (3, 32, 32)).classes, "train")
    partial = CifarFS(str(tmp_path), (3, 32, 32), allow_partial=True)
    assert partial.name == "cifar_fs-bertinetto-partial"
    assert sum(c.size for c in partial.classes("train")) == 64 * 3 - 1


def test_where_nothing_is_found_the_archive_is_downloaded(tmp_path, monkeypatch):
    asked = []

    def download(urls, path, md5, remedy):
        asked.append((urls[0].rpartition("/")[2], md5, remedy))
        write_tar(path, python_form())

    monkeypatch.setattr(cifar100, "download", download)
    source = FC100(str(tmp_path / "new"), (3, 32, 32))
    source.obtain()
    assert found(source) == expected(FC100)
    FC100(str(tmp_path / "new"), (3, 32, 32)).obtain()
    ((name, md5, remedy),) = asked
    assert (name, len(md5)) == ("cifar-100-python.tar.gz", 32)
    assert "FC100_PART.pickle, few-shot-PART.npz, or folders called by class" in remedy


# Broken


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("meta", {"fine_label_names": NAMES[:99]}, "meta has not the names of CIFAR-100's classes"),
        ("meta", {}, "meta has not the names of CIFAR-100's classes"),
        ("train", {"data": flat("train"), "fine_labels": [1.5]}, "train has no list of labels that are whole numbers"),
        *(
            ("train", {"data": flat("train"), "fine_labels": labels}, "train has no list of labels that are whole numbers")
            for labels in (range(10**30), range(10**8), unfolding(), [10**30], [True])
        ),
        ("meta", {"fine_label_names": [*NAMES[:99], unfolding()]}, "meta has not the names of CIFAR-100's classes"),
        ("train", {"data": flat("train"), "fine_labels": [1]}, "train has 200 images, and there are labels of 1"),
        ("train", {"data": flat("train")[:, :9], "fine_labels": 200 * [0]}, "train has no rows of 3072 bytes"),
        ("train", {"fine_labels": 200 * [0]}, "train has no rows of 3072 bytes"),
        ("test", {"data": flat("test"), "fine_labels": [*range(99), 100]}, "a label is 100, which has no name"),
    ],
)
def test_broken_files_are_refused(tmp_path, name, content, said):
    write_files(tmp_path, python_form() | {f"cifar-100-python/{name}": pickle.dumps(content)})
    source = FC100(str(tmp_path), (3, 32, 32), allow_partial=True)
    assert said in refusal(lambda: (source.classes("train"), list(source.images("train"))))


@pytest.mark.parametrize("data", [b"", b"x" * 3075])
def test_a_broken_binary_file_is_refused(tmp_path, data):
    write_files(tmp_path, binary_form() | {"cifar-100-binary/test.bin": data})
    assert "which are no rows of 3074" in refusal(CifarFS(str(tmp_path), (3, 32, 32)).classes, "train")


@pytest.mark.real_data
def test_the_real_names(data_dir):
    names = cifar100.load_dict(cifar100.Place(data_dir / "cifar100_meta/meta"))["fine_label_names"]
    assert names == NAMES
