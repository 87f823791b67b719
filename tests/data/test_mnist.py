"""MNIST and its kin: the files of LeCun et al., compressed or not, and those that are broken or lie."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from fewshot.data.files.idx import read_idx
from fewshot.data.files.places import Place
from fewshot.data.images.mnist import EMNIST, MNIST, NAMES
from tests.data.fakes import refusal, write_zip
from tests.data.test_published_images import levels, sizes, table


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()


def pictures(greys):
    """4 x 4 pictures with the grey above their diagonal."""
    return np.triu(np.ones((4, 4), dtype=np.uint8), 1)[None] * np.array(greys, dtype=np.uint8)[:, None, None]


def files(train, test, begins=("train", "t10k")):
    """Of two parts, each a list of (grey, label)."""
    found = {}
    for name, rows in zip(begins, (train, test), strict=True):
        greys, labels = zip(*rows, strict=True)
        found |= {f"{name}-images-idx3-ubyte": idx(pictures(greys)), f"{name}-labels-idx1-ubyte": idx(np.array(labels))}
    return found


TRAIN, TEST = [(10, 1), (20, 0), (30, 1)], [(40, 0), (50, 9)]
FORMS = {
    "plain": lambda root, members: [write(root / name, data) for name, data in members.items()],
    "dotted": lambda root, members: [write(root / name.replace("-idx", ".idx"), data) for name, data in members.items()],
    "gzip": lambda root, members: [write(root / f"{name}.gz", gzip.compress(data)) for name, data in members.items()],
    "dotted gzip": lambda root, members: [
        write(root / f"{name.replace('-idx', '.idx')}.gz", gzip.compress(data)) for name, data in members.items()
    ],
    "zip": lambda root, members: write_zip(root / "a.zip", {f"x/{n}.gz": gzip.compress(d) for n, d in members.items()}),
}


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def source(root, name="mnist", shape=(1, 4, 4), **options):
    return MNIST(name, str(root), shape, allow_partial=True, **options)


def greys(of):
    """Class -> the grey above the diagonal of each image."""
    pairs = zip(of.classes("all"), of.images("all"), strict=True)
    return {c.name: images[:, 0, 0, 3].tolist() for c, images in pairs}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("folder", ["mnist", "MNIST/raw", "."])
def test_digits_of_both_parts_are_joined(tmp_path, form, folder):
    form(tmp_path / folder, files(TRAIN, TEST))
    digits = source(tmp_path)
    assert greys(digits) == {"0": [20, 40], "1": [10, 30], "9": [50]}
    assert digits.columns("all")["published"] == ["train", "test", "train", "train", "test"]
    assert table(digits).classes == ("0", "1", "9")
    assert {path.parent for path in digits.files("all")} == {(tmp_path / folder).absolute()}


def test_a_file_that_is_not_compressed_comes_first(tmp_path):
    FORMS["gzip"](tmp_path / "mnist", files([(1, 0)], [(2, 0)]))
    FORMS["plain"](tmp_path / "mnist", files(TRAIN, TEST))
    assert sizes(source(tmp_path)) == {"0": 2, "1": 2, "9": 1}


def test_files_of_another_data_set_with_the_same_names_are_not_taken(tmp_path):
    FORMS["plain"](tmp_path / "FashionMNIST/raw", files(TRAIN, TEST))
    said = refusal(source(tmp_path).classes, "all")
    assert (
        f"{tmp_path} lacks train-labels-idx1-ubyte and train-labels-idx1-ubyte.gz; put mnist into {tmp_path / 'mnist'}" in said
    )
    assert greys(source(tmp_path, "fashion_mnist")) == {"Ankle boot": [50], "T-shirt/top": [20, 40], "Trouser": [10, 30]}


def test_pictures_are_brought_to_the_shape_asked_for(tmp_path):
    FORMS["plain"](tmp_path / "kmnist", files(TRAIN, TEST))
    (images, *_) = source(tmp_path, "kmnist", (3, 8, 8)).images("all")
    assert images.shape == (2, 3, 8, 8)
    assert (images[0, 0] == images[0, 2]).all()


@pytest.mark.parametrize("arrangement", EMNIST)
def test_letters_are_turned_upright_and_have_the_names_of_their_arrangement(tmp_path, arrangement):
    """Upstream's files hold columns for rows."""
    last = len(EMNIST[arrangement]) - 1
    members = files([(10, last)], [(20, 1)], (f"emnist-{arrangement}-train", f"emnist-{arrangement}-test"))
    write_zip(tmp_path / "gzip.zip", {f"gzip/{name}.gz": gzip.compress(data) for name, data in members.items()})
    letters = source(tmp_path, "emnist", arrangement=arrangement)
    images = dict(zip([c.name for c in letters.classes("all")], letters.images("all"), strict=True))
    name = {"byclass": "z", "bymerge": "t", "balanced": "t", "letters": "z"}.get(arrangement, "9")
    assert images[name][0, 0, 3, 0] == 10
    assert images["a" if arrangement == "letters" else "1"][0, 0, 3, 0] == 20
    assert letters.name == f"emnist-{arrangement}-partial"


def test_users_pictures_are_made_light_on_dark(tmp_path):
    FORMS["plain"](tmp_path / "mnist", files(TRAIN, TEST))
    drawing = np.full((4, 4), 255, dtype=np.uint8)
    drawing[1:3, 1:3] = 0
    assert source(tmp_path).encode(drawing)[0, 0, 0] == 0


def test_other_numbers_than_published_are_refused_unless_they_are_asked_for(tmp_path):
    FORMS["plain"](tmp_path / "mnist", files(TRAIN, TEST))
    said = refusal(MNIST("mnist", str(tmp_path), (1, 4, 4)).classes, "all")
    assert "holds 5 images of mnist instead of 70,000" in said
    assert "data.allow_partial=true" in said


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("train-images-idx3-ubyte", b"", "does not begin as an array of bytes in 3 dimensions does"),
        ("train-images-idx3-ubyte", idx(np.zeros(3)), "does not begin as an array of bytes in 3 dimensions does"),
        ("train-images-idx3-ubyte", idx(pictures([1, 2])), "has 2 images, and there are 3 labels"),
        ("train-images-idx3-ubyte", idx(np.zeros((3, 0, 4))), "has images without pixels"),
        ("train-images-idx3-ubyte", idx(np.zeros((3, 4, 5))), "training images are (4, 5) and test images (4, 4)"),
        ("train-images-idx3-ubyte", idx(pictures([1, 2, 3]))[:-1], "it holds 47 of the 48 bytes that its header promises"),
        (
            "train-images-idx3-ubyte",
            idx(pictures([1, 2, 3])) + b"x",
            "it holds more than the 48 bytes that its header promises",
        ),
        ("train-images-idx3-ubyte", gzip.compress(idx(pictures([1, 2, 3])), mtime=0)[:-9], "is no whole idx file"),
        ("t10k-labels-idx1-ubyte", idx(np.array([10, 0])), "label 10 is none of mnist"),
    ],
)
def test_broken_files_are_refused(tmp_path, name, content, said):
    FORMS["plain"](tmp_path / "mnist", files(TRAIN, TEST) | {name: content})
    assert said in refusal(lambda: (source(tmp_path).classes("all"), list(source(tmp_path).images("all"))))


@pytest.mark.parametrize("shape", [(60_000, 28, 28), (2**32 - 1, 2**32 - 1, 2**32 - 1)])
def test_a_giant_header_costs_no_memory(tmp_path, shape):
    """Neither one that promises more than any dataset has, nor one that promises what is not there."""
    write(tmp_path / "a", bytes([0, 0, 8, 3]) + struct.pack(">3I", *shape) + b"few")
    tracemalloc.start()
    said = refusal(read_idx, Place(tmp_path / "a"), 3)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "promises" in said
    assert most < 10 * 2**20


def test_what_is_no_arrangement_or_shape_is_refused(tmp_path):
    assert "data.source.arrangement=byclas is unknown; did you mean 'byclass'?" in refusal(
        source, tmp_path, "emnist", arrangement="byclas"
    )
    assert "must have 1 channel, grey, or 3, colour" in refusal(source, tmp_path, shape=(2, 4, 4))


@pytest.mark.real_data
def test_real_clothes(data_dir):
    clothes = source(data_dir, "fashion_mnist", (1, 28, 28))
    assert set(sizes(clothes)) == set(NAMES["fashion_mnist"])
    assert len(set(sizes(clothes).values())) == 1
    assert set(levels(clothes)) == set(NAMES["fashion_mnist"])


def test_a_broken_archive_of_another_dataset_is_named_only_where_a_file_is_missing(tmp_path):
    write(tmp_path / "others/photos.zip", b"PK broken")
    said = refusal(source(tmp_path).classes, "all")
    assert "lacks train-labels" in said
    assert "python -m fewshot.data prepare mnist downloads it; besides, " in said
    assert "photos.zip" in said
    FORMS["plain"](tmp_path, files(TRAIN, TEST))
    assert greys(source(tmp_path))["0"] == [20, 40]
