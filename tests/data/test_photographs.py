"""Published datasets of photographs in the forms that people have: what is a class, what is cut out, missing or broken."""

import io
import json
import tarfile
from contextlib import suppress

import numpy as np
import pytest
from scipy.io import savemat

from fewshot.data.catalogue import Facts
from fewshot.data.images.aircraft import Aircraft
from fewshot.data.images.cars import Cars
from fewshot.data.images.flowers102 import Flowers102
from fewshot.data.images.fungi import Fungi
from fewshot.data.images.gtsrb import GTSRB
from fewshot.data.images.meta_album import MetaAlbum
from fewshot.data.images.split_folders import SplitFolders
from fewshot.data.published import published_classes
from fewshot.data.source import SPLITS
from fewshot.errors import UserError
from tests.data.fakes import image_bytes, refusal, write_zip
from tests.data.test_published_images import SHAPE, grey, levels, sizes, table


def found(source):
    """Class -> the greys of its images, of the parts that have any."""
    classes = {}
    for part in source.parts:
        with suppress(UserError):
            classes |= part_levels(source, part)
    return classes


def part_levels(source, part):
    pairs = zip(source.classes(part), source.images(part), strict=True)
    return {c.name: images[:, 0, 0, 0].tolist() for c, images in pairs}


def write_tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def write_files(root, members):
    for name, data in members.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


WRITERS = {
    "folder": lambda root, members, _: write_files(root, members),
    "zip": lambda root, members, _: write_zip(root / "all.zip", members),
    "tar": lambda root, members, tar: write_tar(root / tar, members),
}
everywhere = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)

# FGVC-Aircraft


def plane(level):
    """Sky of grey 1, an aircraft at (2, 3) to (8, 7) with the grey, and a banner of grey 255 at the bottom."""
    pixels = np.full((40, 12), 1, dtype=np.uint8)
    pixels[3:7, 2:8], pixels[20:] = level, 255
    return image_bytes(pixels)


def aircraft(changes=()):
    variants = {
        "images_variant_trainval.txt": "0000001 F/A-18\n0000003 Boeing 737\n",
        "images_variant_test.txt": "0000002 F/A-18\n",
    }
    texts = variants | {"images_box.txt": "".join(f"000000{i} 2 3 8 7\n" for i in (1, 2, 3))} | dict(changes)
    images = {f"images/000000{i}.jpg": plane(10 * i) for i in (1, 2, 3)}
    files = {name: text.encode() for name, text in texts.items() if text is not None} | images
    return {f"fgvc-aircraft-2013b/data/{name}": data for name, data in files.items()}


@everywhere
def test_aircraft_are_cut_out_by_their_boxes_and_have_slashes_in_their_names(tmp_path, write):
    write(tmp_path, aircraft(), "fgvc-aircraft-2013b.tar.gz")
    source = Aircraft(str(tmp_path), (1, 4, 6), allow_partial=True)
    assert part_levels(source, "train") == {"F/A-18": [10, 20]}
    (images,) = source.images("train")
    assert (images[0] == 10).all(), "nothing but the aircraft"
    assert source.name == "aircraft-metadataset-partial-box"


def test_the_banner_is_cut_off_or_not(tmp_path):
    write_files(tmp_path, aircraft())
    banner, whole = (Aircraft(str(tmp_path), (1, 40, 12), crop, allow_partial=True) for crop in ("banner", "none"))
    (images,), (uncut,) = banner.images("train"), whole.images("train")
    assert images.max() < 60, "no pixel of the banner, nor a mixture with it"
    assert (uncut[:, 0, -20:] == 255).all()
    assert len({banner.name, whole.name, Aircraft(str(tmp_path), SHAPE, split="frn").name}) == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images_variant_trainval.txt": None, "images_variant_test.txt": None}, "lacks images_variant_train.txt"),
        ({"images_box.txt": None}, "lacks images_box.txt"),
        ({"images_box.txt": "0000001 2 3 8 7\n"}, "images_box.txt lists no box of image 0000003"),
        ({"images_box.txt": "0000001 2 3 8 x\n"}, "the box of image 0000001 is 2 3 8 x"),
        ({"images_box.txt": "0000001 2 3 8 " + "9" * 5000}, "the box of image 0000001 is 2 3 8 999"),
        ({"images_box.txt": "0000001 2 3\n"}, "'0000001 2 3' has not 5 fields"),
        ({"images_variant_test.txt": "0000001 Boeing 737\n"}, "image 0000001 is a Boeing 737 and a F/A-18"),
    ],
)
def test_broken_listings_of_aircraft_are_refused(tmp_path, changes, said):
    write_files(tmp_path, aircraft(changes))
    assert said in refusal(Aircraft(str(tmp_path), SHAPE, allow_partial=True).classes, "train")


def test_a_box_outside_of_its_image_is_refused_with_the_image(tmp_path):
    write_files(tmp_path, aircraft({"images_box.txt": "".join(f"000000{i} 12 3 18 7\n" for i in (1, 2, 3))}))
    source = Aircraft(str(tmp_path), SHAPE, allow_partial=True)
    assert "0000001.jpg cannot be decoded (its box" in refusal(lambda: list(source.images("train")))


def test_another_crop_is_unknown(tmp_path):
    assert "data.source.crop=boxes is unknown; did you mean 'box'?" in refusal(Aircraft, str(tmp_path), SHAPE, "boxes")


@everywhere
def test_frns_aircraft_are_cut_out_and_have_numbers(tmp_path, write):
    images = {f"{part}/{7 * i}/000000{i}.png": grey(10 * i) for i, part in enumerate(("train", "train", "val", "test"))}
    write(tmp_path / "aircraft", {f"Aircraft_fewshot/{name}": data for name, data in images.items()}, "Aircraft_fewshot.tar")
    source = Aircraft(str(tmp_path), SHAPE, split="frn", allow_partial=True)
    assert part_levels(source, "train") == {"train 000": [0], "train 007": [10]}
    assert part_levels(source, "test") == {"test 021": [30]}
    for other in (Aircraft(str(tmp_path), SHAPE, allow_partial=True), Aircraft(str(tmp_path), SHAPE, "banner", "frn")):
        assert "set data.split.name=frn and data.source.crop=box" in refusal(other.classes, "train")
    assert "instead of 100 and 10,000" in refusal(Aircraft(str(tmp_path), SHAPE, split="frn").classes, "train")


# VGG Flowers 102


def labels(numbers):
    file = io.BytesIO()
    savemat(file, {"labels": np.array([numbers], dtype=np.uint8)})
    return file.getvalue()


@everywhere
def test_flowers_have_labels_from_1_and_names_that_the_archive_does_not_say(tmp_path, write):
    """``setid.mat`` is no split of classes."""
    images = {f"jpg/image_{i:05d}.jpg": grey(i) for i in (1, 2, 3)}
    write(tmp_path / "flowers-102", images, "102flowers.tgz")
    write_files(tmp_path / "flowers-102", {"imagelabels.mat": labels([77, 1, 77]), "setid.mat": b"none of our business"})
    source = Flowers102(str(tmp_path), SHAPE, allow_partial=True)
    assert found(source) == {"001.pink primrose": [2], "077.passion flower": [1, 3]}
    assert source.columns("train")["file"] == [f"jpg/image_0000{i}.jpg" for i in (2, 1, 3)]


def test_flowers_may_be_written_in_capitals(tmp_path):
    write_files(tmp_path / "flowers", {"imagelabels.mat": labels([77, 1]), "jpg/image_00001.JPG": grey(1)})
    write_files(tmp_path / "flowers", {"jpg/image_00002.jpg": grey(2)})
    assert found(Flowers102(str(tmp_path), SHAPE, allow_partial=True)) == {"001.pink primrose": [2], "077.passion flower": [1]}


def test_flowers_in_folders_of_an_image_split_are_joined(tmp_path):
    names = {
        "train/77/image_00001.jpg": 1,
        "valid/77/image_00002.JPG": 2,
        "test/77/image_00003.jpg": 3,
        "test/103/image_00004.jpg": 4,
    }
    write_zip(tmp_path / "flowers.zip", {f"flowers/{name}": grey(level) for name, level in names.items()})
    assert found(Flowers102(str(tmp_path), SHAPE, allow_partial=True)) == {"077.passion flower": [1, 2, 3]}


@pytest.mark.parametrize(("numbers", "said"), [([0], "image 1 has the label 0 instead of 1 to 102"), ([], "holds no image")])
def test_labels_that_no_flower_has_are_refused(tmp_path, numbers, said):
    write_files(tmp_path, {"imagelabels.mat": labels(numbers), "jpg/image_00001.jpg": grey(1)})
    assert said in refusal(Flowers102(str(tmp_path), SHAPE, allow_partial=True).classes, "train")


def test_a_part_of_the_flowers_is_refused_unless_it_is_asked_for(tmp_path):
    write_files(tmp_path, {"imagelabels.mat": labels([77]), "jpg/image_00001.jpg": grey(1)})
    said = refusal(Flowers102(str(tmp_path), SHAPE).classes, "train")
    assert "holds 1 classes and 1 images of flowers102-metadataset instead of 102 and 8,189" in said
    assert "data.allow_partial=true" in said
    write_files(tmp_path, {"imagelabels.mat": labels([77, 78])})
    assert "lacks 1 images that are listed (first: jpg/image_00002.jpg)" in refusal(
        Flowers102(str(tmp_path), SHAPE).classes, "val"
    )


@pytest.mark.real_data
def test_real_flowers(data_dir):
    source = Flowers102(str(data_dir), SHAPE, allow_partial=True)
    for part in SPLITS:
        classes = source.classes(part)
        assert len(classes) >= 5
        assert {c.name for c in classes} <= set(published_classes("flowers102", "metadataset")[part])
        assert sum(c.size for c in classes) == len(source.columns(part)["file"])


# FGVCx Fungi


def fungi(part, rows, names):
    """`rows` are (image, file, category)."""
    content = {
        "images": [{"id": image, "file_name": f"images/{file}"} for image, file, _ in rows],
        "annotations": [{"image_id": image, "category_id": category} for image, _, category in rows],
        "categories": [{"id": number, "name": name} for number, name in names.items()],
    }
    return {f"{part}.json": json.dumps(content).encode()}


MUSHROOMS = {226: "Cortinarius malicorius", 283: "Cystoderma jasonis"}


def write_fungi(root, changes=()):
    listings = fungi("train", [(7, "226_a/x.JPG", 226), (8, "283_b/x.JPG", 283)], MUSHROOMS)
    listings |= fungi("val", [(9, "226_a/y.JPG", 226)], MUSHROOMS) | dict(changes)
    write_files(
        root / "fungi", listings | {f"images/{n}.JPG": grey(i) for i, n in enumerate(("226_a/x", "283_b/x", "226_a/y"), 1)}
    )
    return Fungi(str(root), SHAPE, allow_partial=True)


def test_training_and_validation_images_of_mushrooms_are_joined_and_numbers_are_in_their_names(tmp_path):
    assert found(write_fungi(tmp_path)) == {"0226.Cortinarius malicorius": [1, 3], "0283.Cystoderma jasonis": [2]}


def test_a_missing_mushroom_is_not_mistaken_for_one_of_another_folder(tmp_path):
    source = write_fungi(tmp_path)
    (tmp_path / "fungi/images/226_a/x.JPG").unlink()
    assert found(source) == {"0226.Cortinarius malicorius": [3], "0283.Cystoderma jasonis": [2]}


def test_a_suffix_may_be_in_capitals_in_the_listing_alone(tmp_path):
    source = write_fungi(tmp_path)
    (tmp_path / "fungi/images/226_a/x.JPG").rename(tmp_path / "fungi/images/226_a/x.jpg")
    assert found(source) == {"0226.Cortinarius malicorius": [1, 3], "0283.Cystoderma jasonis": [2]}


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"{}",
        b'{"images": [{"id": 1}]}',
        b"null",
        b'{"images": 3, "categories": [], "annotations": []}',
        b'{"images": [], "categories": [{"id": 1e999, "name": "a"}], "annotations": []}',
    ],
)
def test_listings_of_mushrooms_of_another_kind_are_refused(tmp_path, content):
    source = write_fungi(tmp_path, {"val.json": content})
    assert "val.json lists no images, annotations and categories" in refusal(source.classes, "train")


# Stanford Cars


def annotations(rows):
    """`rows` are (file, class); each box is of the columns 3 to 8 and the rows 4 to 7, counted from 1."""
    fields = [(name, object) for name in ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")]
    file = io.BytesIO()
    savemat(file, {"annotations": np.array([[(3, 4, 8, 7, number, name) for name, number in rows]], dtype=fields)})
    return file.getvalue()


def cars():
    train, test = annotations([("00001.jpg", 14), ("00002.jpg", 3)]), annotations([("00001.jpg", 3)])
    images = {"cars_train/00001.jpg": plane(10), "cars_train/00002.jpg": plane(20), "cars_test/00001.jpg": plane(30)}
    return images | {"devkit/cars_train_annos.mat": train, "cars_test_annos_withlabels.mat": test}


def test_cars_are_of_two_folders_with_the_same_names(tmp_path):
    write_files(tmp_path / "stanford_cars", cars())
    assert found(Cars(str(tmp_path), (1, 4, 6), crop=True, allow_partial=True)) == {"14": [10], "3": [30, 20]}
    (tmp_path / "stanford_cars/cars_train/00001.jpg").unlink()
    assert found(Cars(str(tmp_path), (1, 4, 6), crop=True, allow_partial=True)) == {"3": [30, 20]}


def test_boxes_of_cars_count_from_one_and_their_last_pixel_is_in_them(tmp_path):
    pixels = np.arange(480, dtype=np.uint16).astype(np.uint8).reshape(40, 12)
    write_files(tmp_path, {"cars_train/1.jpg": image_bytes(pixels), "cars_train_annos.mat": annotations([("1.jpg", 14)] * 2)})
    source = Cars(str(tmp_path), (1, 4, 6), crop=True)
    for image in source.found():
        np.testing.assert_array_equal(source.decoded(image)[0], pixels[3:7, 2:8])


def test_lists_in_the_folder_of_another_data_set_are_not_taken(tmp_path):
    write_files(tmp_path, {"banking77/train.csv": b"text,category\na,b\n"})
    message = refusal(Cars(str(tmp_path), SHAPE).classes, "train")
    assert "lacks train.csv; put there, or into its cars/, cars_train/, cars_test/, " in message


def test_cars_as_dn4_lists_them(tmp_path):
    files = {f"{part}.csv": f"filename,label\n00000{i}.jpg,0{i}\n".encode() for i, part in enumerate(SPLITS, 1)}
    write_files(tmp_path / "cars", files | {f"images/00000{i}.jpg": grey(i) for i in (1, 2, 3)})
    source = Cars(str(tmp_path), SHAPE, allow_partial=True)
    assert {image.label: image.columns["file"] for image in source._listed} == {str(i): f"00000{i}.jpg" for i in (1, 2, 3)}
    assert "data.source.crop=true needs" in refusal(
        lambda: Cars(str(tmp_path), SHAPE, crop=True, allow_partial=True).classes("train")
    )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cars_train_annos.mat", labels([1]), "cars_train_annos.mat: None is no annotation"),
        ("cars_train_annos.mat", annotations([("a.jpg", 197), ("b.jpg", 1)]), "class 197 is none of 1 to 196"),
        ("cars_train_annos.mat", annotations([("a.jpg", "x"), ("b.jpg", 1)]), "is no annotation"),
        ("train.csv", b"filename,label\na.jpg," + b"9" * 5000, "train.csv: class 999"),
    ],
)
def test_broken_listings_of_cars_are_refused(tmp_path, name, content, said):
    write_files(tmp_path, {name: content})
    assert said in refusal(Cars(str(tmp_path), SHAPE, allow_partial=True).classes, "train")


# GTSRB


def test_signs_have_their_track_whether_as_published_or_as_on_kaggle(tmp_path):
    published = {"GTSRB/Final_Training/Images/00014/00003_00029.ppm": 1, "GTSRB/Final_Training/Images/00014/00004_00000.ppm": 2}
    others = {"GTSRB/Final_Test/Images/00001.ppm": 3, "GTSRB/Final_Training/Images/00043/00003_00029.ppm": 4}
    write_zip(tmp_path / "gtsrb/GTSRB_Final_Training_Images.zip", {n: grey(level) for n, level in (published | others).items()})
    source = GTSRB(str(tmp_path), SHAPE, allow_partial=True)
    assert levels(source) == {"14.Stop": [1, 2]}
    assert table(source).columns["track"].names == ("14_00003", "14_00004")
    write_files(tmp_path / "two/GTSRB", {"Train/7/00007_00003_00029.png": grey(5), "Test/00001.png": grey(6)})
    source = GTSRB(str(tmp_path / "two"), SHAPE, allow_partial=True)
    assert (levels(source), source.columns("all")["track"]) == ({"07.Speed limit (100km/h)": [5]}, ["07_00003"])


# Folders that a split names


def folders(root, **options):
    return SplitFolders("dtd", str(root), SHAPE, "metadataset", tars=["dtd-r1.0.1.tar.gz"], **options)


def textures():
    return sorted(name for part in published_classes("dtd", "metadataset").values() for name in part)


@everywhere
def test_textures_in_folders_of_their_names(tmp_path, write, monkeypatch):
    names = textures()
    members = {f"dtd/images/{name}/{name}_0001.jpg": grey(i) for i, name in enumerate(names)}
    extra = {"dtd/images/waffled/.directory": b"[Dolphin]", "dtd/labels/train1.txt": b"x", "dtd/other/0001.jpg": grey(9)}
    write(tmp_path, members | extra, "dtd-r1.0.1.tar.gz")
    monkeypatch.setattr("fewshot.data.images.listed.facts", lambda name: Facts(name, "", "", "", classes=47, images=47))
    source = folders(tmp_path)
    assert [len(source.classes(part)) for part in SPLITS] == [33, 7, 7]
    assert found(source) == {name: [i] for i, name in enumerate(names)}


def test_a_smaller_copy_of_the_textures_is_not_mixed_in(tmp_path):
    large = {f"dtd/images/banded/{number}.jpg": grey(number) for number in range(3)}
    write_files(tmp_path, large | {"dtd/84x84/banded/0.jpg": grey(200), "dtd/84x84/banded/7.jpg": grey(201)})
    assert found(folders(tmp_path, allow_partial=True)) == {"banded": [0, 1, 2]}


def test_textures_that_are_missing_are_counted(tmp_path):
    write_files(tmp_path, {"dtd/images/banded/a.jpg": grey(1)})
    assert "holds 1 classes and 1 images of dtd-metadataset instead of 47 and 5,640" in refusal(
        folders(tmp_path).classes, "train"
    )
    assert "holds no train image of dtd-metadataset-partial; put there a folder of images" in refusal(
        folders(tmp_path / "dtd/images/banded", allow_partial=True).classes, "train"
    )


# Meta-Album


def album(columns="FILE_NAME,CATEGORY,SUPER_CATEGORY", info=None):
    text = f"{columns}\n1.jpg,bee,insect\n2.jpg,bee,insect\n\n3.jpg,wren,bird\n".replace(",", "\t" if "\t" in columns else ",")
    files = {"labels.csv": text.encode(), "images/1.jpg": grey(1), "images/2.jpg": grey(2), "3.jpg": grey(3)}
    return files | ({} if info is None else {"info.json": json.dumps(info).encode()})


def test_data_sets_of_meta_album_are_domains(tmp_path):
    write_files(tmp_path / "meta_album/BRD_Mini", album())
    renamed = {"image_column_name": "f", "category_column_name": "c", "super_category_column_name": "s"}
    write_zip(tmp_path / "meta_album/INS_Mini.zip", album("f,c,s", renamed))
    write_zip(
        tmp_path / "meta_album/deep.zip",
        {f"PLK_Mini/{name}": data for name, data in album("FILE_NAME\t CATEGORY\tSUPER_CATEGORY").items()},
    )
    source = MetaAlbum(str(tmp_path), SHAPE)
    one = {"bee": [1, 2], "wren": [3]}
    names = ("BRD_Mini", "INS_Mini", "PLK_Mini")
    assert levels(source) == {f"{name} {label}": greys for name in names for label, greys in one.items()}
    assert table(source).columns["domain"].names == names
    assert set(source.columns("all")["super_category"]) == {"insect", "bird"}
    chosen = MetaAlbum(str(tmp_path), SHAPE, ["INS_Mini"])
    assert (sizes(chosen), chosen.name) == ({"INS_Mini bee": 2, "INS_Mini wren": 1}, "meta_album-INS_Mini")
    assert {path.name for path in chosen.files("all")} == {"INS_Mini.zip"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels.csv": b"FILE_NAME,KIND\na,b\n"}, "labels.csv has no column CATEGORY (it has FILE_NAME, KIND)"),
        ({"labels.csv": b"FILE_NAME,CATEGORY\na\n"}, "labels.csv, line 2: 'a' is no image and class"),
        ({"labels.csv": b'FILE_NAME,CATEGORY\n"a,b\n'}, "is a quote never closed?"),
        ({"labels.csv": b""}, "labels.csv has no column FILE_NAME"),
        ({"info.json": b"[1]"}, "info.json is no JSON object"),
        ({"info.json": b"{"}, "info.json is no JSON object"),
        ({"labels.csv": b"FILE_NAME,CATEGORY\n9.jpg,bee\n"}, "lacks 1 images that are listed (first: BRD/9.jpg)"),
        (
            {"labels.csv": b"FILE_NAME,CATEGORY\n../../secret.jpg,bee\n"},
            "lacks 1 images that are listed (first: BRD/../../secret.jpg)",
        ),
    ],
)
def test_broken_data_sets_of_meta_album_are_refused(tmp_path, changes, said):
    write_files(tmp_path, {"secret.jpg": grey(1)})
    write_files(tmp_path / "meta_album/BRD", album() | changes)
    assert said in refusal(MetaAlbum(str(tmp_path), SHAPE).classes, "all")


def test_a_data_set_that_meta_album_does_not_have_here_is_refused(tmp_path):
    write_files(tmp_path / "meta_album/BRD_Mini", album())
    assert "data.source.datasets=BRD_Micro is none of those; did you mean 'BRD_Mini'?" in refusal(
        MetaAlbum(str(tmp_path), SHAPE, ["BRD_Micro"]).classes, "all"
    )
    assert "there is no folder with labels.csv" in refusal(
        MetaAlbum(str(tmp_path / "meta_album/BRD_Mini/images"), SHAPE).classes, "all"
    )
