"""Published datasets of images in their layouts: what is a class, what is kept apart, and what is missing or broken."""

import logging
from functools import partial

import numpy as np
import pytest
from scipy.io import savemat

from fewshot.data.files.places import all_places, by_folder_and_name, own_folder
from fewshot.data.images.chestx import ChestX
from fewshot.data.images.chula_rbc12 import ChulaRBC12
from fewshot.data.images.class_folders import ClassFolders
from fewshot.data.images.cub import CUB
from fewshot.data.images.flowers102 import Flowers102
from fewshot.data.images.gtsrb import GTSRB
from fewshot.data.images.isic2018 import ISIC2018
from fewshot.data.images.listed import PublishedImages
from fewshot.data.images.medmnist import MedMNIST
from fewshot.data.parts import class_tasks
from fewshot.data.preparation import prepare
from fewshot.data.source import table_of
from fewshot.data.splits import KFold
from fewshot.data.tables.movielens import MovieLens
from fewshot.data.text.intents import Banking77
from fewshot.data.text.sentences import found_in
from fewshot.tasks.class_sampler import ClassSampler
from fewshot.tasks.streams import stream_key
from tests.data.fakes import data_module, image_bytes, refusal, silent, write_tar, write_zip
from tests.toy import EvalTasks, Toy

SHAPE = (3, 8, 8)


def grey(level: int) -> bytes:
    return image_bytes(np.full((8, 8), level, dtype=np.uint8))


def sizes(source, part="all"):
    return {c.name: c.size for c in source.classes(part)}


def table(source):
    return table_of(source, source.classes("all"), source.columns("all"))


def levels(source):
    """Class -> the greys of its images."""
    return {c.name: images[:, 0, 0, 0].tolist() for c, images in zip(source.classes("all"), source.images("all"), strict=True)}


# Files in folders and in archives


def test_files_are_found_in_folders_and_archives_and_loose_ones_come_first(tmp_path):
    packed = {"top/cat/1.png": b"packed", "top/cat/2.png": b"two", "__MACOSX/cat/3.png": b"no", "cat/._1.png": b"no"}
    write_zip(tmp_path / "deep/a.zip", packed)
    write_tar(tmp_path / "b.tgz", {"./top/dog/1.png": b"in a tar"})
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/1.png").write_bytes(b"loose")
    (tmp_path / ".hidden").write_bytes(b"no")
    found = by_folder_and_name(all_places(tmp_path))
    assert {name: place.read() for name, place in found.items()} == {
        "cat/1.png": b"loose",
        "cat/2.png": b"two",
        f"{tmp_path.name}/b.tgz": (tmp_path / "b.tgz").read_bytes(),
    }
    assert (found["cat/2.png"].folder, str(found["cat/2.png"])) == ("cat", f"{tmp_path / 'deep/a.zip'}: top/cat/2.png")
    found = by_folder_and_name(all_places(tmp_path, ["b.tgz"]))
    assert (found["dog/1.png"].read(), found["dog/1.png"].open().read()) == (b"in a tar", b"in a tar")


def test_links_to_folders_are_entered_once(tmp_path):
    (tmp_path / "shared/cat").mkdir(parents=True)
    (tmp_path / "shared/cat/1.png").write_bytes(b"one")
    (tmp_path / "shared/cat/round").symlink_to(tmp_path / "shared")
    (tmp_path / "own").mkdir()
    for name in ("train", "also"):
        (tmp_path / "own" / name).symlink_to(tmp_path / "shared")
    assert [str(place.path.relative_to(tmp_path)) for place in all_places(tmp_path / "own")] == ["own/also/cat/1.png"]


class Lists(PublishedImages):
    """Two images of one class, named by files of every kind."""

    name = folder = "lists"
    forms = "lists and images"

    def found(self):
        boxes = {name: tuple(map(int, box.split())) for name, box in self.lines("boxes.txt", fields=2)}
        number = int(self.mat("labels.mat")["labels"][0, 1])
        for name in self.json("names.json"):
            yield from self.image(f"deep/er/{name}", f"class {number}", box=boxes.get(name))


def write_lists(root):
    half = np.full((8, 8), 9, dtype=np.uint8)
    half[:, 4:] = 200
    for name in ("a.png", "b.png"):
        (root / "er").mkdir(exist_ok=True)
        (root / "er" / name).write_bytes(image_bytes(half))
    (root / "boxes.txt").write_text("\ufeffb.png 4 0 8 8\n\n")
    (root / "names.json").write_text('["a.png", "b.png"]')
    savemat(root / "labels.mat", {"labels": np.array([[3, 7]], dtype=np.uint8)}, do_compression=True)
    return Lists(str(root), SHAPE)


def test_listings_of_every_kind_and_parts_of_images(tmp_path):
    source = write_lists(tmp_path)
    assert levels(source) == {"class 7": [9, 200]}
    assert {path.name for path in source.files("all")} == {"a.png", "b.png", "boxes.txt", "names.json", "labels.mat"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("boxes.txt", b"b.png\n", "boxes.txt: 'b.png' has not 2 fields"),
        ("boxes.txt", b"\xff", "boxes.txt: byte 0 is no UTF-8"),
        ("names.json", b"{", "names.json is no JSON"),
        ("names.json", b"[" * 100_000, "names.json is no JSON"),
        ("labels.mat", b"MATLAB", "labels.mat is no MATLAB file"),
    ],
)
def test_broken_listings_of_every_kind_are_refused(tmp_path, name, content, said):
    source = write_lists(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert said in refusal(source.classes, "all")


def test_a_matlab_file_that_unpacks_to_gigabytes_is_refused(tmp_path, monkeypatch):
    source = write_lists(tmp_path)
    savemat(tmp_path / "labels.mat", {"labels": np.zeros(5000, dtype=np.uint8)}, do_compression=True)
    monkeypatch.setattr("fewshot.data.files.mat.LARGEST", 4999)
    assert "it unpacks to more than 4999 bytes" in refusal(source.classes, "all")


# Chula RBC-12


def write_cells(root, crops, folder="chula_rbc12"):
    """Crops as (class, number, picture); the grey is the number."""
    lines = [f"{label}/{n}.jpg,{label.split('_', 1)[1]},{picture}.jpg,1,2" for label, n, picture in crops]
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / "crops.csv").write_text("\n".join(["file,class_name,source_image,x,y", *lines]) + "\n")
    write_zip(root / folder / "crops.zip", {f"{label}/{n}.jpg": grey(n) for label, n, _ in crops})
    return ChulaRBC12(str(root), SHAPE)


CELLS = [("00_round", 1, 7), ("10_uncategorised", 2, 7), ("01_burr", 3, 7), ("01_burr", 4, 8)]
TWELVE = [(f"{shape:02d}_shape{shape}", shape, 7) for shape in range(12)]
"""As many shapes as were published."""


@pytest.mark.parametrize("folder", ["chula_rbc12", "."])
def test_cells_have_their_smear_picture_and_the_uncategorised_are_no_class(tmp_path, folder):
    source = write_cells(tmp_path, CELLS, folder)
    assert levels(source) == {"burr": [3, 4], "round": [1]}
    assert source.columns("all")["source_image"] == ["7.jpg", "8.jpg", "7.jpg"]
    assert levels(ChulaRBC12(str(tmp_path), SHAPE, categorised=False)) == {"uncategorised": [2]}
    assert {path.name for path in source.files("all")} == {"crops.csv", "crops.zip"}
    assert prepare(source, "all", tmp_path / "cache", silent).table.columns["file"].names[0] == "00_round/1.jpg"


def test_crops_that_are_listed_and_missing_are_refused_or_left_out(tmp_path, caplog):
    write_cells(tmp_path, CELLS)
    write_zip(tmp_path / "chula_rbc12/crops.zip", {"01_burr/3.jpg": grey(3)})
    assert "lacks 2 images that are listed (first: 00_round/1.jpg)" in refusal(ChulaRBC12(str(tmp_path), SHAPE).classes, "all")
    with caplog.at_level(logging.INFO):
        assert sizes(ChulaRBC12(str(tmp_path), SHAPE, allow_partial=True)) == {"burr": 1}
    assert "1 classes, 1 images; 2 listed images are missing" in caplog.text


def test_an_image_of_that_name_in_the_folder_of_another_class_is_none(tmp_path):
    write_cells(tmp_path, [("00_round", 1, 7), ("01_burr", 1, 8)])
    write_zip(tmp_path / "chula_rbc12/crops.zip", {"00_round/1.jpg": grey(1)})
    assert "lacks 1 images that are listed (first: 01_burr/1.jpg)" in refusal(ChulaRBC12(str(tmp_path), SHAPE).classes, "all")


def test_an_image_that_is_listed_twice_is_refused(tmp_path):
    source = write_cells(tmp_path, [("00_round", 1, 7), ("01_burr", 2, 8), ("01_burr", 2, 9)])
    assert "01_burr/2.jpg is listed more than once as burr, and would be in both support and query" in refusal(
        source.files, "all"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,class_name\n", "has no column source_image (it has file, class_name)"),
        ('file,class_name,source_image\n"a,b,c\n', "crops.csv, line 1: unexpected end of data; is a quote never closed?"),
        ("file,class_name,source_image\na,b\n", "line 2: not as many fields as the header"),
        ("file,class_name,source_image\n", "holds no image of chula_rbc12"),
    ],
)
def test_broken_listings_are_refused(tmp_path, text, said):
    source = write_cells(tmp_path, CELLS)
    (tmp_path / "chula_rbc12/crops.csv").write_text(text)
    assert said in refusal(source.classes, "all")


def test_a_folder_without_the_data_set_is_refused(tmp_path):
    assert f"paths.data_dir={tmp_path} lacks crops.csv" in refusal(ChulaRBC12(str(tmp_path), SHAPE).classes, "all")
    assert f"{tmp_path / 'x'} is missing" in refusal(ChulaRBC12(str(tmp_path / "x"), SHAPE).classes, "all")


def test_images_have_one_or_three_channels(tmp_path):
    assert "must have 1 channel, grey, or 3, colour" in refusal(ChulaRBC12, str(tmp_path), (2, 8, 8))


# Nothing on both sides of a task


@pytest.mark.proof
@pytest.mark.real_data
def test_no_smear_picture_is_on_both_sides_of_a_task(data_dir):
    """10,000 tasks of each fold as drawn, 5 shots and 15 queries."""
    cells = table(ChulaRBC12(str(data_dir), (3, 40, 40)))
    for fold in range(4):
        part = cells.select(KFold(folds=4, fold=fold).rows("test", cells))
        assert_apart(part, "source_image", ClassSampler(3, 5, 15, apart="source_image"), range(10_000))


@pytest.mark.real_data
def test_no_patient_is_on_both_sides_of_a_task(data_dir):
    xrays = table(ChestX(str(data_dir), (3, 84, 84)))
    kept = np.flatnonzero(~np.isin(xrays.columns["class"].values, [xrays.classes.index("Mass")]))
    assert_apart(xrays.select(kept), "patient", ClassSampler(5, 5, 5, apart="patient"), range(500))


def assert_apart(part, column, sampler, indices):
    sampler.check(part, "data.test", "test")
    values = part.columns[column].values
    seen = set()
    for rows in sampler.draw(part, stream_key("apart"), indices):
        for support, query in zip(rows.support.numpy(), rows.query.numpy(), strict=True):
            assert not set(values[support]) & set(values[query])
            assert not set(support) & set(query)
            seen |= set(query)
    assert len(seen) > len(part) / 2, "queries come from all over the part"


# ChestX-ray14


def write_xrays(root):
    entries = [("1_0.png", "Mass", 1), ("1_1.png", "Mass|Nodule", 1), ("2_0.png", "No Finding", 2), ("3_0.png", "Effusion", 3)]
    entries += [("3_1.png", "Pneumonia", 3), ("3_2.png", "Mass", 3), ("4_0.png", "Effusion", 4)]
    lines = [f"{name},{finding},0,{patient}" for name, finding, patient in entries]
    text = "\n".join(["Image Index,Finding Labels,Follow-up #,Patient ID", *lines])
    rgba = image_bytes(np.dstack([np.full((8, 8, 3), 60), np.full((8, 8), 255)]).astype(np.uint8))
    members = {f"images_001/images/{name}": rgba if name == "3_0.png" else grey(50) for name, _, _ in entries}
    write_zip(root / "chestx.zip", {"Data_Entry_2017.csv": text.encode(), **members})
    return ChestX(str(root), SHAPE)


def test_xrays_have_a_single_finding_of_the_seven_and_their_patient(tmp_path):
    """One of them has four channels."""
    source = write_xrays(tmp_path)
    assert levels(source) == {"Effusion": [60, 50], "Mass": [50, 50]}
    assert source.columns("all")["patient"] == ["3", "4", "1", "3"]


@pytest.mark.real_data
def test_real_xrays(data_dir):
    found = sizes(ChestX(str(data_dir), SHAPE))
    assert sum(found.values()) >= 231
    assert set(found) == {"Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumothorax"}


# ISIC 2018


def write_lesions(root, truth, lesions=None):
    root.mkdir(parents=True, exist_ok=True)
    header = "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC"
    (root / "ISIC2018_Task3_Training_GroundTruth.csv").write_text("\n".join([header, *truth]))
    if lesions is not None:
        text = "\n".join(["image,lesion_id,diagnosis_confirm_type", *lesions])
        (root / "ISIC2018_Task3_Training_LesionGroupings.csv").write_text(text)
    for name in ("a", "b"):
        (root / f"{name}.jpg").write_bytes(grey(9))
    return ISIC2018(str(root), SHAPE, allow_partial=True)


TRUTH = ["a,1.0,0.0,0.0,0.0,0.0,0.0,0.0", "b,0,0,0,0,0,1,0"]


def test_lesions_by_the_challenge_and_by_ham10000(tmp_path):
    source = write_lesions(tmp_path / "one", TRUTH, ["a,HAM_1,histo", "b,HAM_2,histo"])
    assert (sizes(source), source.columns("all")["lesion"]) == ({"df": 1, "mel": 1}, ["HAM_2", "HAM_1"])
    assert "lesion" not in write_lesions(tmp_path / "two", TRUTH).columns("all")
    (tmp_path / "two/HAM10000_metadata.csv").write_text("lesion_id,image_id,dx\nHAM_1,a,nv\nHAM_1,b,nv\n")
    source = ISIC2018(str(tmp_path / "two"), SHAPE, allow_partial=True)
    assert (sizes(source), source.columns("all")["lesion"]) == ({"nv": 2}, ["HAM_1", "HAM_1"])
    some = refusal(ISIC2018(str(tmp_path / "two"), SHAPE).classes, "all")
    assert "1 classes and 2 images of isic2018 instead of 7 and 10,015" in some


@pytest.mark.parametrize(
    ("truth", "lesions", "said"),
    [
        (["a,1,0,0,0,0,1,0"], None, "a has 2 diagnoses"),
        (["a,0,0,0,0,0,0,0"], None, "a has 0 diagnoses"),
        (TRUTH, ["a,HAM_1,histo"], "b has no lesion"),
    ],
)
def test_lesions_without_a_diagnosis_or_group_are_refused(tmp_path, truth, lesions, said):
    assert said in refusal(write_lesions(tmp_path, truth, lesions).classes, "all")


# EuroSAT and PlantVillage


def test_class_folders_in_an_archive(tmp_path):
    write_zip(tmp_path / "EuroSAT.zip", {f"2750/{c}/{c}_{i}.jpg": grey(i) for c in ("River", "Forest") for i in (1, 2)})
    (tmp_path / "readme.txt").write_text("x")
    folders = partial(ClassFolders, "eurosat", "eurosat", image_shape=SHAPE)
    source = folders(str(tmp_path), classes=["Forest", "River"], allow_partial=True)
    assert levels(source) == {"Forest": [1, 2], "River": [1, 2]}
    some = refusal(folders(str(tmp_path), classes=["Forest", "River"]).classes, "all")
    assert "2 classes and 4 images of eurosat instead of 10 and 27,000" in some
    (tmp_path / "empty").mkdir()
    none = refusal(folders(str(tmp_path / "empty"), classes=["Forest", "River"]).classes, "all")
    assert "holds no image of eurosat; put there a folder of images for each class, or a zip archive of them" in none
    missing = ClassFolders("eurosat", "eurosat", str(tmp_path), SHAPE, classes=["Forest", "SeaLake"])
    assert "lacks class SeaLake of eurosat" in refusal(missing.classes, "all")
    fewer = ClassFolders("eurosat", "eurosat", str(tmp_path), SHAPE, classes=["Forest", "SeaLake"], allow_partial=True)
    assert sizes(fewer) == {"Forest": 2}


def test_an_empty_folder_does_not_hide_the_data_elsewhere(tmp_path):
    """As a failed download or an unpacking that was stopped may leave one."""
    for folder in ("chestx", "gtsrb/.hidden", "plantvillage", "clinc150"):
        (tmp_path / folder).mkdir(parents=True)
    write_zip(tmp_path / "GTSRB/a.zip", {"00000/00001_00002.png": grey(0)})
    assert own_folder(str(tmp_path), "gtsrb", "GTSRB") == tmp_path / "GTSRB"
    assert own_folder(str(tmp_path), "chestx") == tmp_path
    write_xrays(tmp_path)
    assert sizes(ChestX(str(tmp_path), SHAPE))
    (tmp_path / "domains.json").write_text("{}")
    assert found_in(str(tmp_path), "clinc150", "domains.json") == tmp_path / "domains.json"
    write_zip(tmp_path / "other.zip", {"train/bee/1.jpg": grey(0)})
    leaves = ClassFolders("cropdisease", "plantvillage", str(tmp_path), SHAPE, below="train", allow_partial=True)
    assert "plantvillage is missing or empty; put there a folder of images" in refusal(leaves.classes, "all")


def test_a_broken_archive_of_others_matters_only_if_something_is_missing(tmp_path):
    cells = write_cells(tmp_path, TWELVE, folder=".")
    (tmp_path / "unrelated.zip").write_bytes(b"no zip")
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n1,Heat (1995),Crime\n")
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,1,3.5,0\n")
    assert len(sizes(cells)) == 12
    assert MovieLens(str(tmp_path), "movielens_small", 8, 10).columns("all")["item"] == ["1"]
    for name in ("crops.zip", "ratings.csv"):
        (tmp_path / name).unlink()
    for source in (ChulaRBC12(str(tmp_path), SHAPE), MovieLens(str(tmp_path), "movielens_small", 8, 10)):
        message = refusal(source.columns, "all")
        assert message.count("; besides, ") == 1
        assert f"; besides, {tmp_path / 'unrelated.zip'} is not a whole zip archive" in message


def test_where_a_missing_data_set_can_be_downloaded_the_command_is_named(tmp_path):
    (tmp_path / "cub").mkdir()
    (tmp_path / "cub/readme.txt").write_text("x")
    banking = partial(Banking77, str(tmp_path), 8, 100, [2, 4])
    for name, call in (
        ("cub", partial(CUB(str(tmp_path), SHAPE).classes, "train")),
        ("cub", partial(CUB(str(tmp_path / "no"), SHAPE).classes, "train")),
        ("gtsrb", partial(GTSRB(str(tmp_path), SHAPE).classes, "all")),
        ("flowers102", partial(Flowers102(str(tmp_path), SHAPE).classes, "train")),
        ("medmnist", partial(MedMNIST(str(tmp_path), ["pathmnist"], SHAPE).files, "all")),
        ("banking77", lambda: banking().files("all")),
    ):
        assert refusal(call).endswith(f"; python -m fewshot.data prepare {name} downloads it"), name
    assert "prepare" not in refusal(ChestX(str(tmp_path), SHAPE).classes, "all"), "a browser is needed"


def test_class_folders_below_one(tmp_path):
    greys = {"valid": 2, "train": 3, "test": 4}
    write_zip(tmp_path / "x/all.zip", {f"data/{part}/Apple___rust/a b.JPG": grey(of) for part, of in greys.items()})
    source = ClassFolders("cropdisease", "x", str(tmp_path), SHAPE, below="train", allow_partial=True)
    assert levels(source) == {"Apple___rust": [3]}
    some = ClassFolders("cropdisease", "x", str(tmp_path), SHAPE, below="train")
    assert "1 classes and 1 images of cropdisease instead of 38 classes; put all of" in refusal(some.classes, "all")
    elsewhere = ClassFolders("cropdisease", "y", str(tmp_path), SHAPE, below="train")
    assert f"{tmp_path / 'y'} is missing" in refusal(elsewhere.classes, "all"), "these classes may be of any dataset"


# MedMNIST


def write_npz(root, name, labels, images=None):
    arrays = {}
    for number, part in enumerate(("train", "val", "test")):
        of_part = np.array(labels[part])
        level = np.arange(len(of_part), dtype=np.uint8)[:, None, None] + np.uint8(10 * number)
        arrays[f"{part}_images"] = np.broadcast_to(level, (len(of_part), 8, 8)) if images is None else images
        arrays[f"{part}_labels"] = of_part if of_part.ndim == 2 else of_part[:, None]
    root.mkdir(parents=True, exist_ok=True)
    np.savez(root / f"{name}.npz", **arrays)


LABELS = {"train": [1, 0], "val": [1], "test": [0, 1]}


def test_medical_data_sets_are_domains(tmp_path):
    for name in ("skinmnist", "lungmnist"):
        write_npz(tmp_path / "medmnist", name, LABELS)
    source = MedMNIST(str(tmp_path), ["skinmnist", "lungmnist"], (1, 8, 8))
    one = {"00": [1, 20], "01": [0, 10, 21]}
    assert levels(source) == {f"{name} {c}": greys for name in ("lungmnist", "skinmnist") for c, greys in one.items()}
    assert source.columns("all")["published"] == 2 * ["train", "test", "train", "val", "test"]
    assert table(source).columns["domain"].names == ("lungmnist", "skinmnist")
    assert source.name == "medmnist-lung-skin"


def test_medical_files_of_another_kind_are_refused(tmp_path):
    write_npz(tmp_path, "many", {part: [[0, 1]] for part in LABELS})
    assert "images have several labels" in refusal(MedMNIST(str(tmp_path), ["many"], SHAPE).classes, "all")
    write_npz(tmp_path, "deep", {part: [0] for part in LABELS}, np.zeros((1, 2, 2, 2, 2), dtype=np.uint8))
    assert "choose datasets of flat images" in refusal(
        lambda s: list(s.images("all")), MedMNIST(str(tmp_path), ["deep"], SHAPE)
    )
    write_npz(tmp_path, "short", LABELS, images=np.zeros((1, 8, 8), np.uint8))
    assert "1 images have 2 labels" in refusal(lambda s: list(s.images("all")), MedMNIST(str(tmp_path), ["short"], (1, 8, 8)))
    (tmp_path / "broken.npz").write_bytes(b"PK")
    assert "broken.npz is not a whole zip archive" in refusal(MedMNIST(str(tmp_path), ["broken"], SHAPE).classes, "all")
    assert "absent.npz is missing" in refusal(MedMNIST(str(tmp_path), ["absent"], SHAPE).classes, "all")
    assert "data.source.datasets=[] names no dataset" in refusal(MedMNIST, str(tmp_path), [], SHAPE)


# Tested on another dataset


def test_a_data_set_that_is_tested_alone_is_not_divided(tmp_path):
    """While one that other parts draw from too is."""
    source = write_xrays(tmp_path / "x")
    source.image_shape = (1, 16, 16)
    sizes = {"ways": 3, "queries": 2, "eval": EvalTasks(3, 1, 2), "split": KFold(folds=3)}
    module = data_module(Toy(), tmp_path / "cache", **sizes, test=class_tasks(source, 2, 1, 1))
    module.check(["train", "val", "test"])
    module.prepare(["train", "val", "test"])
    assert module.prepared["test"].table.classes == ("Effusion", "Mass")
    assert [len(module.prepared[part].table.classes) for part in ("train", "val")] == [10, 10]
