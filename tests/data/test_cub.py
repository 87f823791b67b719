"""Tests of CUB-200-2011: its forms, its splits, bounding boxes, and images that ImageNet has too."""

from pathlib import PurePosixPath

import numpy as np
import pytest

from fewshot.data.images import cub, split_images
from fewshot.data.images.cub import CUB
from fewshot.data.published import listed, published_classes, splits_of
from fewshot.data.source import SPLITS
from tests.data.fakes import data_module, image_bytes, refusal, write_tar, write_zip
from tests.toy import EvalTasks

SHAPE = (3, 16, 16)
SIZES = listed("lists", "cub_sizes")
BIRDS = [
    *("001.Black_footed_Albatross", "002.Laysan_Albatross", "004.Groove_billed_Ani", "159.Black_and_white_Warbler"),
    *("160.Black_throated_Blue_Warbler", "200.Common_Yellowthroat"),
]
CAPITALS = {"159.Black_and_white_Warbler": "Black_And_White_Warbler", "001.Black_footed_Albatross": "Black_Footed_Albatross"}
FEAT = "filename, label, concept_label\nBlack_And_White_Warbler_0001_7.jpg,159.Black_and_white_Warbler,6,12,11\n"


def file_name(bird: str, number: int) -> str:
    """Names of files have other capitals than those of folders."""
    return f"{CAPITALS.get(bird, bird.partition('.')[2])}_{number:04d}_{1000 + number}.jpg"


def picture(bird: str, number: int, inside: int = 250) -> bytes:
    """A 40x20 picture that says its class and number, and a square of 8x8 pixels at (10, 4)."""
    pixels = np.full((20, 40, 3), (BIRDS.index(bird), number, 100), np.uint8)
    pixels[4:12, 10:18] = (BIRDS.index(bird), number, inside)
    return image_bytes(pixels)


IMAGES = [(bird, number) for bird in BIRDS for number in (1, 2, 3)]
LAYOUTS = {
    "original": lambda bird, name: f"CUB_200_2011/images/{bird}/{name}",
    "raw": lambda bird, name: f"CUB_fewshot_raw/train/{bird}/{name}",
    "cropped": lambda bird, name: f"CUB_fewshot_cropped/val/{bird}/{name.replace('.jpg', '.png')}",
    "flat": lambda _, name: f"images/{name}",
}


def write_birds(root, layout="original", text=True):
    files = {LAYOUTS[layout](bird, file_name(bird, number)): picture(bird, number) for bird, number in IMAGES}
    if layout == "original" and text:
        names = [(row, f"{bird}/{file_name(bird, number)}") for row, (bird, number) in enumerate(IMAGES, 1)]
        files["CUB_200_2011/images.txt"] = "".join(f"{row} {name}\n" for row, name in names).encode()
        files["CUB_200_2011/bounding_boxes.txt"] = "".join(f"{row} 10.0 4.0 8.0 8.0\n" for row, _ in names).encode()
    write_zip(root / "cub/birds.zip", files)
    return files


def numbers(source):
    """Bird -> the numbers of its pictures."""
    found = {}
    for part in source.parts:
        for entry, images in zip(source.classes(part), source.images(part), strict=True):
            assert (images[:, 0] == BIRDS.index(entry.name)).all()
            found[entry.name] = images[:, 1, 0, 0].tolist()
    return found


@pytest.fixture(autouse=True)
def three_images(monkeypatch):
    """Three images of each bird."""
    facts = {"cub_sizes": dict.fromkeys(SIZES, 3), "cub_in_imagenet": [file_name(BIRDS[0], 2)]}
    monkeypatch.setattr(cub, "listed", lambda _, name: facts[name])


@pytest.fixture
def six_birds(monkeypatch):
    """Splits of six birds, of which one tests what the other trains on, as these two do."""
    parts = {"closerlook": ([0, 3], [1, 5], [2, 4]), "frn": ([1, 2], [4, 5], [0, 3])}
    lists = {
        name: {part: tuple(BIRDS[number] for number in numbers) for part, numbers in zip(SPLITS, division, strict=True)}
        for name, division in parts.items()
    }
    monkeypatch.setattr(split_images, "published_classes", lambda _, split: lists[split])


EVERY = {bird: [1, 2, 3] for bird in BIRDS}


@pytest.mark.parametrize("layout", ["original", "raw", "flat"])
def test_birds_are_known_by_their_folder_or_file(tmp_path, six_birds, layout):
    write_birds(tmp_path, layout)
    source = CUB(str(tmp_path), SHAPE)
    assert numbers(source) == EVERY
    parts = ((0, 3), (1, 5), (2, 4))
    assert [[c.name for c in source.classes(part)] for part in SPLITS] == [[BIRDS[i] for i in numbers] for numbers in parts]


@pytest.mark.parametrize("name", ["CUB_200_2011.tgz", "CUB_200_2011.tar", "images.tgz", "CUB_fewshot_raw.tar"])
def test_the_published_archive_needs_no_unpacking(tmp_path, six_birds, name):
    files = write_birds(tmp_path / "elsewhere")
    write_tar(tmp_path / name, files | {"attributes.txt": b"1 has_bill_shape::curved_(up_or_down)\n"})
    assert numbers(CUB(str(tmp_path), SHAPE)) == EVERY


def test_unpacked_folders_are_found_by_their_name(tmp_path, six_birds):
    for name, data in write_birds(tmp_path / "elsewhere").items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert numbers(CUB(str(tmp_path), SHAPE)) == EVERY


def test_cropped_birds_say_so_where_their_folder_is_the_data_folder(tmp_path, six_birds):
    for name, data in write_birds(tmp_path / "elsewhere", "cropped").items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert "are cut out by their bounding boxes already" in refusal(
        CUB(str(tmp_path / "CUB_fewshot_cropped"), SHAPE).classes, "train"
    )


@pytest.mark.parametrize(
    ("folder", "cut_out"),
    [("images_uncropped", False), ("cropped", True), ("CUB-Cropped/images", True), ("cropped_birds.zip", True)],
)
def test_a_folder_or_archive_tells_by_a_whole_word_that_its_birds_are_cut_out(tmp_path, six_birds, folder, cut_out):
    members = {f"{bird}/{file_name(bird, number)}": picture(bird, number) for bird, number in IMAGES}
    archive = folder if folder.endswith(".zip") else "a.zip"
    write_zip(
        tmp_path / "cub" / archive, {name if archive == folder else f"{folder}/{name}": members[name] for name in members}
    )
    assert numbers(CUB(str(tmp_path), SHAPE, crop=cut_out)) == EVERY
    assert refusal(CUB(str(tmp_path), SHAPE, crop=not cut_out).classes, "train")


def test_frns_cropped_archive_is_read_as_it_is(tmp_path, six_birds):
    write_tar(tmp_path / "cub/CUB_fewshot_cropped.tar", write_birds(tmp_path / "elsewhere", "cropped"))
    assert numbers(CUB(str(tmp_path), SHAPE, crop=True)) == EVERY


def test_masks_of_the_birds_are_not_taken_for_photographs(tmp_path, six_birds):
    """``segmentations.tgz`` is unpacked beside ``images/``, with the same folders and names."""
    for name, data in write_birds(tmp_path / "elsewhere").items():
        for path in {tmp_path / name, tmp_path / name.replace("/images/", "/segmentations/").replace(".jpg", ".png")}:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image_bytes(np.zeros((20, 40), np.uint8)) if "segmentations" in path.parts else data)
    assert numbers(CUB(str(tmp_path), SHAPE)) == EVERY


# Splits


def test_every_split_divides_the_birds(tmp_path):
    write_birds(tmp_path)
    for split in splits_of("cub"):
        source = CUB(str(tmp_path), SHAPE, split=split, allow_partial=True)
        assert source.name == f"cub-{split}-partial"
        for part in SPLITS:
            expected = sorted(set(BIRDS) & set(published_classes("cub", split)[part]))
            if expected:
                assert [c.name for c in source.classes(part)] == expected
    assert "data.split.name=ravi is no split of cub" in refusal(CUB, str(tmp_path), SHAPE, split="ravi")


def test_a_checkpoint_of_another_split_has_seen_the_tested_birds(tmp_path, six_birds):
    """Wertheimer et al. test on the birds that Chen et al. train on."""
    write_birds(tmp_path)
    modules = {}
    for split in ("closerlook", "frn"):
        source = CUB(str(tmp_path), SHAPE, split=split)
        sizes = {"ways": 2, "queries": 2, "eval": EvalTasks(2, 1, 2)}
        modules[split] = data_module(source, tmp_path / "cache", **sizes)
        modules[split].check(SPLITS)
        modules[split].prepare(SPLITS)
    modules["frn"].trained_on = modules["closerlook"].state_dict()
    message = refusal(modules["frn"].check, ["test"])
    assert "trained on 2 of the 2 test classes (001.Black_footed_Albatross, 159.Black_and_white_Warbler)" in message


# Bounding boxes


def test_birds_are_cut_out_by_their_boxes(tmp_path, six_birds):
    write_birds(tmp_path)
    source = CUB(str(tmp_path), SHAPE, crop=True)
    assert source.name == "cub-closerlook-cropped"
    assert numbers(source) == EVERY
    assert all((images[:, 2] == 250).all() for images in source.images("train"))
    assert not (next(CUB(str(tmp_path), SHAPE).images("train"))[:, 2] == 250).all()


def test_boxes_must_be_there(tmp_path, six_birds):
    write_birds(tmp_path, text=False)
    assert "lacks images.txt" in refusal(CUB(str(tmp_path), SHAPE, crop=True).classes, "train")
    write_zip(tmp_path / "cub/text.zip", {"x/images.txt": b"1 a/b.jpg\n", "x/bounding_boxes.txt": b"1 0 0 1 1\n"})
    assert "have no box of 'black_footed_albatross_0001_1001'" in refusal(CUB(str(tmp_path), SHAPE, crop=True).classes, "train")


@pytest.mark.parametrize("layout", ["cropped", "flat"])
def test_images_that_are_cut_out_already_say_so(tmp_path, six_birds, layout):
    write_birds(tmp_path, layout)
    if layout == "flat":
        (tmp_path / "cub/split").mkdir()
        (tmp_path / "cub/split/train.csv").write_text(FEAT)
    assert "data.source.crop=false but the birds in" in refusal(CUB(str(tmp_path), SHAPE).classes, "train")
    assert numbers(CUB(str(tmp_path), SHAPE, crop=True)) == EVERY


# Whole or partial


def test_images_that_imagenet_has_can_be_left_out(tmp_path, six_birds):
    write_birds(tmp_path)
    source = CUB(str(tmp_path), SHAPE, in_imagenet=False)
    assert source.name == "cub-closerlook-without_imagenet"
    assert numbers(source) == EVERY | {BIRDS[0]: [1, 3]}


def test_what_is_left_out_makes_the_published_sizes():
    """8,239, 1,779 and 1,770 images in Meta-Dataset's split, 8,204, 1,771 and 1,770 without (learn2learn)."""
    left_out = [cub._class_of(cub._stem(PurePosixPath(name))) for name in listed("lists", "cub_in_imagenet")]
    parts = published_classes("cub", "metadataset")
    assert [sum(SIZES[name] for name in parts[part]) for part in SPLITS] == [8239, 1779, 1770]
    assert [sum(name in parts[part] for name in left_out) for part in SPLITS] == [35, 8, 0]


def test_another_number_of_images_is_refused(tmp_path, six_birds, monkeypatch):
    """As in CUB-200 of 2010, whose classes have the same names."""
    monkeypatch.setattr(cub, "listed", listed)
    write_birds(tmp_path)
    message = refusal(CUB(str(tmp_path), SHAPE).classes, "val")
    assert "has 3 images of 002.Laysan_Albatross instead of 60; put CUB_200_2011.tgz there" in message
    assert "data.allow_partial=true (CUB-200 of 2010 has other images)" in message
    assert numbers(CUB(str(tmp_path), SHAPE, allow_partial=True)) == EVERY


def test_dn4s_numbers_are_of_the_images_of_2010(tmp_path, monkeypatch):
    monkeypatch.setattr(cub, "listed", listed)
    for bird in published_classes("cub", "dn4_2019")["test"]:
        path = tmp_path / "cub" / bird / f"{bird.partition('.')[2]}_0001_1.jpg"
        path.parent.mkdir(parents=True)
        path.write_bytes(picture(BIRDS[0], 1))
    message = refusal(CUB(str(tmp_path), SHAPE, "dn4_2019").classes, "test")
    assert "(CUB-200 of 2010 has other images, of which published numbers of dn4_2019 are)" in message
    assert len(CUB(str(tmp_path), SHAPE, "dn4_2019", allow_partial=True).classes("test")) == 50


@pytest.mark.real_data
def test_the_real_sample(data_dir):
    source = CUB(str(data_dir), SHAPE, crop=True, allow_partial=True)
    assert sum(len(source.classes(part)) for part in source.parts) == 12
    assert {c.size for part in source.parts for c in source.classes(part)} == {5}
    images = list(source.images("train"))
    assert images
