"""Files of published datasets, broken at random: what is read is right, or refused in one line.

Ten thousand of each reader: ``FEWSHOT_FUZZ=10000 .venv/bin/pytest -m proof tests/data/test_broken_listings.py``.
"""

import gzip

import numpy as np
import pytest

from fewshot.data.images.aircraft import Aircraft
from fewshot.data.images.cars import Cars
from fewshot.data.images.flowers102 import Flowers102
from fewshot.data.images.fungi import Fungi
from fewshot.data.images.meta_album import MetaAlbum
from fewshot.data.images.mnist import MNIST
from fewshot.data.images.quickdraw import QuickDraw
from tests.data.test_mnist import TEST, TRAIN, files
from tests.data.test_photographs import SHAPE, aircraft, album, cars, labels, write_files, write_fungi
from tests.data.test_quickdraw import REAL, write_bitmaps
from tests.test_fuzz import fuzz

A_FEW = 24


def write_cars(root):
    write_files(root, cars())
    return root / "devkit/cars_train_annos.mat"


def write_aircraft(name):
    def write(root):
        write_files(root, aircraft())
        return root / "fgvc-aircraft-2013b/data" / name

    return write


def write_flowers(root):
    write_files(root, {"imagelabels.mat": labels(range(1, 103)), "jpg/image_00001.jpg": b""})
    return root / "imagelabels.mat"


def write_mushrooms(root):
    write_fungi(root)
    return root / "fungi/train.json"


def write_album(name):
    def write(root):
        info = {"image_column_name": "FILE_NAME", "category_column_name": "CATEGORY"}
        write_files(root / "meta_album/BRD", album(info=info))
        return root / "meta_album/BRD" / name

    return write


def write_digits(kind, compress):
    def write(root):
        members = {f"{name}.gz" if compress else name: data for name, data in files(TRAIN, TEST).items()}
        write_files(root, {name: gzip.compress(data) if compress else data for name, data in members.items()})
        return next(root.glob(f"train-{kind}*"))

    return write


def write_drawings(root):
    write_bitmaps(root, REAL[:1])
    return root / f"{REAL[0]}.npy"


READERS = {
    "aircraft_boxes": (write_aircraft("images_box.txt"), lambda root: Aircraft(root, SHAPE, allow_partial=True)),
    "aircraft_variants": (
        write_aircraft("images_variant_trainval.txt"),
        lambda root: Aircraft(root, SHAPE, allow_partial=True),
    ),
    "cars": (write_cars, lambda root: Cars(root, SHAPE, crop=True, allow_partial=True)),
    "flowers": (write_flowers, lambda root: Flowers102(root, SHAPE, allow_partial=True)),
    "fungi": (write_mushrooms, lambda root: Fungi(root, SHAPE, allow_partial=True)),
    "meta_album_labels": (write_album("labels.csv"), lambda root: MetaAlbum(root, SHAPE, allow_partial=True)),
    "meta_album_info": (write_album("info.json"), lambda root: MetaAlbum(root, SHAPE, allow_partial=True)),
    "idx_images": (write_digits("images", False), lambda root: MNIST("mnist", root, (1, 4, 4), allow_partial=True)),
    "idx_labels": (write_digits("labels", False), lambda root: MNIST("mnist", root, (1, 4, 4), allow_partial=True)),
    "idx_images_gz": (write_digits("images", True), lambda root: MNIST("mnist", root, (1, 4, 4), allow_partial=True)),
    "quickdraw": (write_drawings, lambda root: QuickDraw(root, allow_partial=True)),
}
readers = pytest.mark.parametrize("name", READERS)


def breaks(name, root, **options):
    write, made = READERS[name]
    path = write(root)

    def read():
        source = made(str(root))
        for part in source.parts:
            source.classes(part)
            for images in source.images(part) if isinstance(source, MNIST | QuickDraw) else ():
                assert images.dtype == np.uint8

    fuzz(path, path.read_bytes(), read, **options)


@readers
def test_a_few_broken_files(name, tmp_path):
    breaks(name, tmp_path, examples=A_FEW)


@pytest.mark.proof
@pytest.mark.timeout(3600)
@readers
def test_many_broken_files(name, tmp_path):
    breaks(name, tmp_path)
