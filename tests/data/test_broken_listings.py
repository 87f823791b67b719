"""Files of published datasets, broken at random: what is read is right, or refused in one line.

Ten thousand of each reader: ``FEWSHOT_FUZZ=10000 .venv/bin/pytest -m proof tests/data/test_broken_listings.py``.
"""

import gzip
import json

import numpy as np
import pytest

from fewshot.backbones.vector_file import read_vectors
from fewshot.data.images.aircraft import Aircraft
from fewshot.data.images.cars import Cars
from fewshot.data.images.chestx import ChestX
from fewshot.data.images.chula_rbc12 import ChulaRBC12
from fewshot.data.images.flowers102 import Flowers102
from fewshot.data.images.fungi import Fungi
from fewshot.data.images.isic2018 import ISIC2018
from fewshot.data.images.medmnist import MedMNIST
from fewshot.data.images.meta_album import MetaAlbum
from fewshot.data.images.mnist import MNIST
from fewshot.data.images.mscoco import MSCOCO
from fewshot.data.images.quickdraw import QuickDraw
from fewshot.data.source import SPLITS
from fewshot.data.tables.movielens import MovieLens
from fewshot.data.text.intents import Banking77, Clinc150
from fewshot.data.text.relations import FewRel
from fewshot.data.text.sentences import Sentences
from tests.data.test_meta_dataset import write_coco
from tests.data.test_mnist import TEST, TRAIN, files
from tests.data.test_movielens import movielens, write_1m, write_100k, write_latest
from tests.data.test_photographs import SHAPE, aircraft, album, cars, labels, write_files, write_fungi
from tests.data.test_published_images import CELLS, LABELS, TRUTH, write_cells, write_lesions, write_npz, write_xrays
from tests.data.test_quickdraw import REAL, write_bitmaps
from tests.data.test_relations import BRIDGE
from tests.data.test_relations import write as write_relations
from tests.data.test_text import ROW, write_clinc
from tests.fuzz import fuzz

A_FEW = 24
WHOLE = (MNIST, QuickDraw, MedMNIST, MovieLens, Sentences, Clinc150, Banking77, FewRel)
"""Sources whose files hold all there is: their rows are read too."""


def write_cars(root):
    write_files(root, cars())
    return root / "devkit/cars_train_annos.mat"


def write_car_lists(root):
    write_files(root, {f"{part}.csv": f"filename,label\n0000{i}.jpg,0{i}\n".encode() for i, part in enumerate(SPLITS)})


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


def write_listing(write, name, *arguments):
    """Writes a dataset with a function of its own tests; the file `name` is broken."""

    def written(root):
        write(root, *arguments)
        return root / name

    return written


def write_ratings(write, name):
    return write_listing(lambda root: write(root / "movielens_small"), f"movielens_small/{name}")


def write_medical(root):
    write_npz(root / "medmnist", "skinmnist", LABELS)
    return root / "medmnist/skinmnist.npz"


def write_xray_listing(root):
    write_xrays(root)
    lines = ["Image Index,Finding Labels,Follow-up #,Patient ID", "1_0.png,Mass,0,1", "3_0.png,Effusion|Nodule,0,3"]
    write_files(root, {"Data_Entry_2017.csv": "\n".join(lines).encode(), "images/1_0.png": b"", "images/3_0.png": b""})
    (root / "chestx.zip").unlink()
    return root / "Data_Entry_2017.csv"


def write_intents(root):
    write_clinc(root, {part: [[f"{intent} it", intent] for intent in ("pay", "freeze")] for part in ("train", "val", "test")})


def write_complaints(root):
    text = b'text,category\n"where, please",card\nhow,transfer\n'
    write_files(root / "banking77", {"train.csv": text, "test.csv": text})


def write_corpora(root):
    write_relations(root, {"wiki": {"P1": [BRIDGE]}, "nyt": {"P2": [BRIDGE]}, "pubmed": {"is_a": [BRIDGE]}})


def write_lesion_metadata(root):
    write_lesions(root, TRUTH)
    write_files(root, {"HAM10000_metadata.csv": b"lesion_id,image_id,dx\nHAM_1,a,nv\nHAM_2,b,nv\n"})


SENTENCES = [
    {"text": "one, two", "class": "a", "split": "train", "group": "x"},
    {"text": "three", "class": "b", "split": "val"},
]


def write_sentences(root):
    rows = ["text,class,split", '"one, two",a,train', "three,b,val"]
    write_files(root, {"mine.csv": "\n".join(rows).encode(), "mine.jsonl": "\n".join(map(json.dumps, SENTENCES)).encode()})


READERS = {
    "banking77": (write_listing(write_complaints, "banking77/train.csv"), lambda root: Banking77(root, **ROW)),
    "chestx": (write_xray_listing, lambda root: ChestX(root, SHAPE)),
    "chula_rbc12": (write_listing(write_cells, "chula_rbc12/crops.csv", CELLS), lambda root: ChulaRBC12(root, SHAPE)),
    "clinc150": (write_listing(write_intents, "clinc150/data_full.json"), lambda root: Clinc150(root, **ROW)),
    "clinc150_domains": (write_listing(write_intents, "clinc150/domains.json"), lambda root: Clinc150(root, **ROW)),
    "fewrel": (write_listing(write_corpora, "fewrel/val_nyt.json"), lambda root: FewRel(root, positions=2, **ROW)),
    "fewrel_names": (write_listing(write_corpora, "fewrel/pid2name.json"), lambda root: FewRel(root, positions=2, **ROW)),
    "isic2018": (
        write_listing(write_lesions, "ISIC2018_Task3_Training_GroundTruth.csv", TRUTH),
        lambda root: ISIC2018(root, SHAPE, allow_partial=True),
    ),
    "isic2018_lesions": (
        write_listing(write_lesions, "ISIC2018_Task3_Training_LesionGroupings.csv", TRUTH, ["a,HAM_1,histo", "b,HAM_2,histo"]),
        lambda root: ISIC2018(root, SHAPE, allow_partial=True),
    ),
    "isic2018_ham10000": (
        write_listing(write_lesion_metadata, "HAM10000_metadata.csv"),
        lambda root: ISIC2018(root, SHAPE, allow_partial=True),
    ),
    "medmnist": (write_medical, lambda root: MedMNIST(root, ["skinmnist"], (1, 8, 8))),
    "movielens_latest": (write_ratings(write_latest, "ratings.csv"), movielens),
    "movielens_latest_movies": (write_ratings(write_latest, "movies.csv"), movielens),
    "movielens_100k": (write_ratings(write_100k, "u.data"), movielens),
    "movielens_100k_movies": (write_ratings(write_100k, "u.item"), movielens),
    "movielens_1m": (write_ratings(write_1m, "ratings.dat"), movielens),
    "movielens_1m_movies": (write_ratings(write_1m, "movies.dat"), movielens),
    "sentences_csv": (write_listing(write_sentences, "mine.csv"), lambda root: Sentences(f"{root}/mine.csv", **ROW)),
    "sentences_jsonl": (write_listing(write_sentences, "mine.jsonl"), lambda root: Sentences(f"{root}/mine.jsonl", **ROW)),
    "aircraft_boxes": (write_aircraft("images_box.txt"), lambda root: Aircraft(root, SHAPE, allow_partial=True)),
    "aircraft_variants": (
        write_aircraft("images_variant_trainval.txt"),
        lambda root: Aircraft(root, SHAPE, allow_partial=True),
    ),
    "cars": (write_cars, lambda root: Cars(root, SHAPE, crop=True, allow_partial=True)),
    "cars_lists": (write_listing(write_car_lists, "train.csv"), lambda root: Cars(root, SHAPE, allow_partial=True)),
    "flowers": (write_flowers, lambda root: Flowers102(root, SHAPE, allow_partial=True)),
    "fungi": (write_mushrooms, lambda root: Fungi(root, SHAPE, allow_partial=True)),
    "mscoco": (
        write_listing(write_coco, "mscoco/annotations/instances_train2017.json"),
        lambda root: MSCOCO(root, SHAPE, allow_partial=True),
    ),
    "meta_album_labels": (write_album("labels.csv"), lambda root: MetaAlbum(root, SHAPE, allow_partial=True)),
    "meta_album_info": (write_album("info.json"), lambda root: MetaAlbum(root, SHAPE, allow_partial=True)),
    "idx_images": (write_digits("images", False), lambda root: MNIST("mnist", root, (1, 4, 4), allow_partial=True)),
    "idx_labels": (write_digits("labels", False), lambda root: MNIST("mnist", root, (1, 4, 4), allow_partial=True)),
    "idx_images_gz": (write_digits("images", True), lambda root: MNIST("mnist", root, (1, 4, 4), allow_partial=True)),
    "quickdraw": (write_drawings, lambda root: QuickDraw(root, allow_partial=True)),
}
readers = pytest.mark.parametrize("name", READERS)
vectors = pytest.mark.parametrize("suffix", [".txt", ".npy"])


def breaks(name, root, **options):
    write, made = READERS[name]
    path = write(root)

    def read():
        source = made(str(root))
        for part in source.parts:
            source.classes(part)
            source.columns(part)
            for x, _ in source.read(part) if isinstance(source, WHOLE) else ():
                assert x.dtype == source.x.dtype

    fuzz(path, path.read_bytes(), read, **options)


def breaks_vectors(root, suffix, **options):
    path = root / f"glove{suffix}"
    if suffix == ".npy":
        (root / "glove.txt").write_text("the\nof\n")
        np.save(path, np.array([[0.1, -0.2], [0.3, 4]]))
    else:
        path.write_text("the 0.1 -0.2\nof 3e-1 4\n")
    fuzz(path, path.read_bytes(), lambda: read_vectors(str(path), width=2, most=10), **options)


@readers
def test_a_few_broken_files(name, tmp_path):
    breaks(name, tmp_path, examples=A_FEW)


@vectors
def test_a_few_broken_word_vectors(tmp_path, suffix):
    breaks_vectors(tmp_path, suffix, examples=A_FEW)


@pytest.mark.proof
@pytest.mark.timeout(3600)
@readers
def test_many_broken_files(name, tmp_path):
    breaks(name, tmp_path)


@pytest.mark.proof
@pytest.mark.timeout(3600)
@vectors
def test_many_broken_word_vectors(tmp_path, suffix):
    breaks_vectors(tmp_path, suffix)
