"""Datasets that several test files read, each written or prepared once."""

import pytest

from fewshot.data.images.omniglot import Omniglot
from fewshot.data.preparation import prepare
from fewshot.data.source import SPLITS
from tests.data.fakes import omniglot_members, silent, split_list, write_small_omniglot, write_zip


@pytest.fixture(scope="session")
def small_omniglot(tmp_path_factory):
    """A folder with a few made-up alphabets, for partition ``lake``."""
    return write_small_omniglot(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def full_omniglot(tmp_path_factory):
    """A folder with all 1,623 characters by name, every other one in the evaluation archive; the drawings are bars."""
    folder = tmp_path_factory.mktemp("full")
    characters = sorted(character for part in split_list("omniglot_vinyals").values() for character in part)
    for number, archive in enumerate(("images_background", "images_evaluation")):
        write_zip(folder / f"{archive}.zip", omniglot_members(archive, characters[number::2]))
    return folder


@pytest.fixture(scope="session")
def real_omniglot(data_dir, tmp_path_factory):
    """The real source and its three prepared splits."""
    source, cache = Omniglot(str(data_dir)), tmp_path_factory.mktemp("cache")
    return source, cache, {split: prepare(source, split, cache, silent) for split in SPLITS}
