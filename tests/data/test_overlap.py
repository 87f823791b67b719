"""Tests that classes in two splits are refused, whether they share a name or images."""

from dataclasses import replace

import numpy as np
import pytest

from fewshot.data.source import SPLITS
from tests.data.fakes import data_module, refusal
from tests.toy import Toy


class Shared(Toy):
    """Some validation classes are in the training split too: by name, or by some of their 16 images, in another order."""

    def __init__(self, names: int = 0, images: int = 0, of_each: int = 16) -> None:
        super().__init__(images=16)
        self._shared_names, self._shared_images, self._of_each = names, images, of_each

    def classes(self, split):
        classes = super().classes(split)
        if split == "val":
            classes[: self._shared_names] = super().classes("train")[: self._shared_names]
        return classes

    def images(self, split):
        copies = list(super().images("train"))[: self._shared_images] if split == "val" else []
        for i, images in enumerate(super().images(split)):
            yield np.concatenate([images[self._of_each :], copies[i][: self._of_each][::-1]]) if i < len(copies) else images


def test_a_shared_name_is_refused_before_anything_is_decoded(tmp_path):
    message = refusal(data_module(Shared(names=7), tmp_path / "cache").check, SPLITS)
    assert "the train and val splits share 7 of their classes (train000, train001, train002, train003, train004" in message
    assert "and 2 more" in message
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("of_each", [8, 16])
def test_classes_with_half_of_their_images_in_common_are_refused_once_they_are_prepared(of_each, tmp_path):
    module = data_module(Shared(images=2, of_each=of_each), tmp_path / "cache")
    module.check(SPLITS)
    message = refusal(module.prepare, SPLITS)
    assert "the train and val splits share 2 of their classes (train000 = val000, train001 = val001)" in message
    assert message == refusal(module.prepare, SPLITS)  # also of what was prepared before


def test_fewer_shared_images_are_counted(tmp_path, caplog):
    module = data_module(Shared(images=2, of_each=7), tmp_path / "cache")
    module.check(SPLITS)
    for _ in range(2):  # from the arrays, then from the digests kept beside them
        with caplog.at_level("INFO"):
            module.prepare(SPLITS)
        said = (
            "toy-10x16: the train and val splits share 14 of their examples: 7 of train000 and val000, 7 of train001 and val001"
        )
        assert caplog.messages == [said]
        caplog.clear()
    assert (tmp_path / "cache/toy-10x16/val/row_digests.npy").is_file()


def test_splits_that_share_nothing_are_accepted(tmp_path, caplog):
    module = data_module(Shared(), tmp_path / "cache")
    module.check(SPLITS)
    with caplog.at_level("INFO"):
        module.prepare(SPLITS)
    assert set(module.images_sha256) == set(SPLITS)
    assert not caplog.messages


class Named(Toy):
    """The first classes of each part have names of one's own."""

    def __init__(self, **names) -> None:
        super().__init__(images=16)
        self._names = names

    def classes(self, split):
        classes = super().classes(split)
        return [*(replace(c, name=name) for c, name in zip(classes, self._names.get(split, ()), strict=False)), *classes[1:]]


def test_dogs_that_are_imagenets_are_told(tmp_path, caplog):
    """Stanford Dogs' classes are ImageNet's, by other names than mini-ImageNet has them."""
    source = Named(train=["n02099601"], test=["dogs/n02099601-golden_retriever"])
    with caplog.at_level("INFO"):
        data_module(source, tmp_path / "cache").check(SPLITS)
    assert "1 of the 10 test classes are ImageNet's and were seen in training, by other names" in caplog.text
    caplog.clear()
    module = data_module(Named(test=["n02099601-golden_retriever"]), tmp_path / "cache")
    with caplog.at_level("INFO"):
        module.check(SPLITS)
        assert "ImageNet" not in caplog.text
        module.pretrained_on = "ImageNet"
        module.check(SPLITS)
    assert "1 of the 10 test classes are ImageNet's and were seen by the network that came with weights" in caplog.text
