"""Tests of the class lists that come with the package, and of a dataset that is divided by one of them."""

import logging
from itertools import combinations

import numpy as np
import pytest
from omegaconf import OmegaConf

from fewshot.data.images.split_images import SplitImages
from fewshot.data.published import check_split, listed, part_of_class, published_classes, splits_of
from fewshot.data.source import SPLITS
from fewshot.data.splits import Published
from tests.data.fakes import data_module, image_bytes, refusal, write_zip

SIZES = {
    ("aircraft", "frn"): (50, 25, 25),
    ("aircraft", "metadataset"): (70, 15, 15),
    ("cars", "dn4"): (130, 17, 49),
    ("cifar_fs", "bertinetto"): (64, 16, 20),
    ("cub", "closerlook"): (100, 50, 50),
    ("cub", "dn4_2019"): (130, 20, 50),
    ("cub", "dn4_2023"): (130, 20, 50),
    ("cub", "feat"): (100, 50, 50),
    ("cub", "frn"): (100, 50, 50),
    ("cub", "metadataset"): (140, 30, 30),
    ("dogs", "dn4"): (70, 20, 30),
    ("dtd", "metadataset"): (33, 7, 7),
    ("fc100", "tadam"): (60, 20, 20),
    ("flowers102", "metadataset"): (71, 15, 16),
    ("fungi", "metadataset"): (994, 200, 200),
    ("miniimagenet", "ravi"): (64, 16, 20),
    ("mscoco", "metadataset"): (0, 40, 40),
    ("quickdraw", "metadataset"): (241, 52, 52),
    ("tieredimagenet", "ren"): (351, 97, 160),
    ("traffic_sign", "metadataset"): (0, 0, 43),
}
BIRDS = [name for dataset, name in SIZES if dataset == "cub"]


@pytest.mark.parametrize(("dataset", "split"), SIZES)
def test_lists_have_the_published_sizes_and_no_class_in_two_parts(dataset, split):
    classes = published_classes(dataset, split)
    assert tuple(len(classes[part]) for part in SPLITS) == SIZES[dataset, split]
    assert all(list(names) == sorted(set(names)) for names in classes.values())
    assert not any(set(classes[one]) & set(classes[other]) for one, other in combinations(SPLITS, 2))


def test_splits_in_circulation_are_named():
    assert splits_of("cub") == tuple(BIRDS)
    assert check_split("cub", "frn") == "frn"
    assert "data.split.name=fnr is no split of cub; did you mean 'frn'?" in refusal(check_split, "cub", "fnr")


def test_splits_divide_the_same_classes():
    for dataset in ("cub", "aircraft"):
        whole = [sorted(part_of_class(dataset, split)) for split in splits_of(dataset)]
        assert all(names == whole[0] for names in whole)
    cifar = sorted(listed("lists", "cifar100_names"))
    for dataset, split in (("cifar_fs", "bertinetto"), ("fc100", "tadam")):
        assert sorted(part_of_class(dataset, split)) == cifar


# Splits of the birds that contradict each other: test classes of the first that the second trains on (Wertheimer et al. 2021
# count from one where Chen et al. 2019 count from zero)


@pytest.mark.parametrize(
    ("tested", "trained", "shared"),
    [
        *(("frn", "closerlook", 50), ("feat", "closerlook", 23), ("metadataset", "closerlook", 14)),
        *(
            ("dn4_2019", "closerlook", 22),
            ("dn4_2023", "closerlook", 24),
            ("closerlook", "frn", 50),
            ("closerlook", "feat", 24),
        ),
    ],
)
def test_splits_of_birds_contradict_each_other(tested, trained, shared):
    assert len(set(published_classes("cub", tested)["test"]) & set(published_classes("cub", trained)["train"])) == shared


def test_classes_that_imagenet_splits_share():
    mini, tiered = published_classes("miniimagenet", "ravi"), published_classes("tieredimagenet", "ren")
    assert [len(set(mini["train"]) & set(tiered[part])) for part in SPLITS] == [17, 6, 13]
    assert [len(set(mini["test"]) & set(tiered[part])) for part in SPLITS] == [5, 1, 4]


# A dataset that is divided


class Textures(SplitImages):
    """Class folders of the names of Meta-Dataset's textures."""

    folder, usual, forms = "dtd", "metadataset", "class folders"
    tars = ("dtd.tgz",)

    def found(self):
        for place in self.every:
            yield from self.image(f"{place.folder}/{place.name.name}", place.folder)


def write_textures(root, parts, left_out=()):
    names = [name for part in parts for name in published_classes("dtd", "metadataset")[part] if name not in left_out]
    grey = image_bytes(np.full((4, 4), 9, np.uint8))
    write_zip(root / "dtd/dtd.zip", {f"images/{name}/{i}.png": grey for name in [*names, "no_such_texture"] for i in range(2)})
    return names


def test_parts_are_by_the_names_of_classes(tmp_path, caplog):
    write_textures(tmp_path, SPLITS)
    source = Textures(str(tmp_path), (1, 4, 4))
    assert (source.name, source.split, source.parts) == ("dtd-metadataset", "metadataset", SPLITS)
    with caplog.at_level(logging.INFO):
        assert {part: [c.name for c in source.classes(part)] for part in SPLITS} == {
            part: list(names) for part, names in published_classes("dtd", "metadataset").items()
        }
    assert "dtd-metadataset val: 7 classes, 14 images" in caplog.text
    assert [len(images) for images in source.images("val")] == [2] * 7
    assert source.columns("val")["file"][:2] == ["gauzy/0.png", "gauzy/1.png"]
    assert source.files("val") == [tmp_path / "dtd/dtd.zip"]


def test_missing_classes_are_refused_or_accepted_when_asked_for(tmp_path):
    write_textures(tmp_path, ["train", "val"], left_out=["grid"])
    message = refusal(Textures(str(tmp_path), (1, 4, 4)).classes, "val")
    assert f"{tmp_path / 'dtd'} lacks 1 of the 7 val classes of dtd-metadataset (first: grid)" in message
    assert "test=false" not in message
    assert "test=false" in refusal(Textures(str(tmp_path), (1, 4, 4)).classes, "test")
    partial = Textures(str(tmp_path), (1, 4, 4), allow_partial=True)
    assert (partial.name, len(partial.classes("val"))) == ("dtd-metadataset-partial", 6)
    assert "holds no test image of dtd-metadataset-partial" in refusal(partial.classes, "test")


def test_a_split_that_no_source_has_is_refused(tmp_path):
    write_textures(tmp_path, SPLITS)
    source = Textures(str(tmp_path), (1, 4, 4))
    data_module(source, tmp_path, split=Published("metadataset"))
    said = refusal(data_module, source, tmp_path, split=Published("frn"))
    assert "data.split.name=frn but dtd-metadataset has one published split" in said
    assert (Published().description, Published("frn").description) == (
        {"rule": "published"},
        {"rule": "published", "name": "frn"},
    )


def test_a_source_takes_the_split_that_is_named_where_the_rule_names_one():
    """And its usual one where the rule is another."""
    for split, expected in (({"name": "frn"}, "frn"), ({"folds": 5}, None)):
        cfg = OmegaConf.create({"data": {"split": split, "source": {"split": "${oc.select:data.split.name,null}"}}})
        assert cfg.data.source.split == expected
