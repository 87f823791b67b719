"""Tests of prepared splits: right bytes, remade when they must be, and whole whatever happens meanwhile."""

import hashlib
import io
import json
import multiprocessing
import os
import pickle
import shutil
import time
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from fewshot.data import prepared
from fewshot.data.images.omniglot import Omniglot
from fewshot.data.preparation import prepare
from fewshot.data.prepared import PreparedSplit, classes_sha256, find, meta_digest
from fewshot.data.source import require
from fewshot.errors import UserError
from tests.data.fakes import CountedToy, HeldToy, Uneven, data_module, refusal, silent
from tests.toy import IMAGES, Toy

PATIENCE = 240
"""Seconds after which a process that should have moved is given up."""


class Newer(CountedToy):
    version = 2


class Gone(CountedToy):
    """A dataset whose files are no longer there."""

    def files(self, split):
        raise UserError("toy.zip is missing; put it back")


class Broken(CountedToy):
    """A dataset with an undecodable image in its second class."""

    def images(self, split):
        yield next(super().images(split))
        raise UserError("image 13 cannot be decoded; replace the file")


class Misshapen(Toy):
    def images(self, split):
        yield from (images[:, :, :8] for images in super().images(split))


class Short(Toy):
    """A dataset that brings fewer images than it lists."""

    def images(self, split):
        yield from (images[:-1] for images in super().images(split))


@pytest.fixture
def source(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "train.txt").write_text("as it was")
    return CountedToy(folder=str(tmp_path / "source"))


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def names_in(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "toy").iterdir() if path.suffix != ".lock")


def all_images() -> np.ndarray:
    return np.concatenate(list(Toy().images("train")))


# Content


def test_images_are_those_of_the_source_class_by_class(source, cache):
    split = prepare(source, "train", cache, silent)
    np.testing.assert_array_equal(split.x.numpy(), all_images())
    assert split.classes == tuple(source.classes("train"))


def test_images_are_mapped_not_read(source, cache):
    split = prepare(source, "train", cache, silent)
    split.x[0, 0, 0, 0] ^= 1  # a copy of this process alone
    np.testing.assert_array_equal(np.load(split.folder / "images.npy"), all_images())


def test_digests_are_of_the_bytes(source, cache):
    split = prepare(source, "train", cache, silent)
    assert split.images_sha256 == hashlib.sha256(all_images().tobytes()).hexdigest()
    line = f"train.txt {hashlib.sha256(b'as it was').hexdigest()}"
    assert split.sources_sha256 == hashlib.sha256(line.encode()).hexdigest()


def test_classes_of_uneven_size_start_where_the_last_one_ends(cache):
    split = prepare(Uneven(4), "train", cache, silent)
    column = split.table.columns["class"]
    assert column.sizes.tolist() == [8, 9, 10, 11]
    assert column.starts.tolist() == [0, 8, 17, 27]
    assert [set(split.x.numpy()[column.rows_of(i)].reshape(-1)) for i in range(4)] == [{i} for i in range(4)]


def test_a_digest_of_classes_depends_on_names_and_order():
    digests = {classes_sha256(classes) for classes in (("a", "b"), ("b", "a"), ("a",), ("ab",))}
    assert len(digests) == 4


def test_splits_have_folders_of_their_own(cache):
    train, val = (prepare(Toy(), split, cache, silent) for split in ("train", "val"))
    assert train.folder != val.folder
    assert train.images_sha256 != val.images_sha256


def test_a_split_pickles_as_its_folder(source, cache):
    split = prepare(source, "train", cache, silent)
    assert split.x.numpy().nbytes == 10 * IMAGES * 256
    assert split.table.columns["class"].starts[1] == IMAGES
    data = pickle.dumps(split)
    assert len(data) < 2000
    again = pickle.loads(data)  # noqa: S301  its own
    assert again == split
    np.testing.assert_array_equal(again.x.numpy(), split.x.numpy())


# Reuse


def test_what_is_there_is_used_again(source, cache):
    first = prepare(source, "train", cache, silent)
    made = (first.folder / "images.npy").stat()
    second = prepare(source, "train", cache, silent)
    assert second == first
    assert source.made == 1
    after = (first.folder / "images.npy").stat()
    assert (after.st_mtime_ns, after.st_ino) == (made.st_mtime_ns, made.st_ino)


def test_nothing_is_found_where_nothing_was_made(source, cache):
    assert find(source, "train", cache) is None
    assert not cache.exists()


def change_content(folder):
    (folder / "train.txt").write_text("as it is now")


def change_time(folder):
    path = folder / "train.txt"
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1_000_000))


@pytest.mark.parametrize("change", [change_content, change_time])
def test_a_changed_source_is_prepared_anew(source, cache, tmp_path, change):
    before = prepare(source, "train", cache, silent)
    change(tmp_path / "source")
    assert find(source, "train", cache) is None
    after = prepare(source, "train", cache, silent)
    assert source.made == 2
    assert (after.sources_sha256 != before.sources_sha256) == (change is change_content)
    assert find(source, "train", cache) == after


def test_other_code_prepares_anew(source, cache, tmp_path):
    prepare(source, "train", cache, silent)
    newer = Newer(folder=str(tmp_path / "source"))
    prepare(newer, "train", cache, silent)
    assert newer.made == 1
    assert find(source, "train", cache) is None
    assert find(newer, "train", cache) is not None


class Sized(CountedToy):
    """A dataset whose shape the config says, cut out of the toy's."""

    def __init__(self, size: int = 16, inverted: bool = False) -> None:
        super().__init__()
        self.image_shape = (1, size, size)
        self._size, self._inverted = size, inverted

    def images(self, split):
        for images in super().images(split):
            yield images[:, :, : self._size, : self._size] ^ np.uint8(255 * self._inverted)


@pytest.mark.parametrize("change", [{"size": 8}, {"inverted": True}])
def test_images_made_with_other_options_are_made_anew(cache, change):
    prepare(Sized(), "train", cache, silent)
    other = Sized(**change)
    assert find(other, "train", cache) is None
    np.testing.assert_array_equal(prepare(other, "train", cache, silent).x.numpy(), np.concatenate(list(other.images("train"))))


def test_what_a_run_has_found_stays_while_another_prepares_with_other_options(cache):
    """A run maps its test part hours after it has looked for it."""
    first, second = (prepare(Sized(inverted=inverted), "train", cache, silent) for inverted in (False, True))
    for split, inverted in ((first, False), (second, True)):
        expected = np.concatenate(list(Sized(inverted=inverted).images("train")))
        np.testing.assert_array_equal(split.x.numpy(), expected)
        again = find(Sized(inverted=inverted), "train", cache)
        assert again == split
        np.testing.assert_array_equal(again.x.numpy(), expected)


def test_arrays_that_were_made_anew_meanwhile_are_refused(source, cache, tmp_path):
    """Classes, digests and protocol are of what was found before."""
    before = prepare(source, "train", cache, silent)
    change_content(tmp_path / "source")
    prepare(source, "train", cache, silent)
    message = refusal(lambda: before.x)
    assert message.startswith(f"{before.folder / 'images.npy'} was made anew, of other files, while this run went on")
    assert message == refusal(lambda: before.row_digests)
    assert message == refusal(lambda: pickle.loads(pickle.dumps(before)).x)  # noqa: S301  its own


def test_options_are_what_a_source_was_made_with_but_its_folder():
    options = {"partition": "'vinyals'", "rotations": "False", "allow_partial": "False"}
    assert Omniglot("anywhere", rotations=False).options == options
    assert pickle.loads(pickle.dumps(Omniglot("anywhere", "lake"))).options["partition"] == "'lake'"  # noqa: S301  its own


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def empty(path):
    path.write_bytes(b"")


def drop_key(path):
    meta = json.loads(path.read_text())
    path.write_text(json.dumps({key: meta[key] for key in meta if key != "sources_stamp"}))


def other_kind(path):
    path.write_text("[1, 2]")


def binary(path):
    path.write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        *(("images.npy", harm) for harm in (cut, flip, empty, Path.unlink)),
        *(("meta.json", harm) for harm in (cut, empty, Path.unlink, drop_key, other_kind, binary)),
    ],
)
def test_damaged_files_are_made_anew(source, cache, name, harm):
    before = prepare(source, "train", cache, silent)
    harm(before.folder / name)
    assert find(source, "train", cache) is None
    after = prepare(source, "train", cache, silent)
    assert after == before
    assert source.made == 2
    np.testing.assert_array_equal(after.x.numpy(), all_images())


def test_an_older_mapping_survives_a_remake(source, cache, tmp_path):
    before = prepare(source, "train", cache, silent)
    mapped = before.x.numpy()
    change_content(tmp_path / "source")
    prepare(source, "train", cache, silent)
    np.testing.assert_array_equal(mapped, all_images())


def test_what_was_made_is_found_without_its_sources(source, cache, tmp_path):
    before = prepare(source, "train", cache, silent)
    gone = Gone(folder=str(tmp_path / "source"))
    assert prepare(gone, "train", cache, silent) == before
    assert gone.made == 0


class InFolder(CountedToy):
    """A dataset of a folder whose one file is a word."""

    def __init__(self, data_dir, allow_partial=False):
        super().__init__()
        self._file = Path(data_dir).resolve() / "toy.txt"

    def files(self, split):
        if not self._file.is_file():
            raise UserError(f"{self._file} is missing; put it there")
        if self._file.read_text() != "whole":
            raise UserError(f"{self._file} is broken; replace it")
        return [self._file]

    def classes(self, split):
        self.files(split)
        return super().classes(split)


@pytest.fixture
def in_folder(tmp_path):
    (tmp_path / "toy.txt").write_text("whole")
    return InFolder(str(tmp_path))


@pytest.fixture
def lines(caplog, monkeypatch):
    """What is logged, as if nothing had been before."""
    monkeypatch.setattr(prepared, "_logged", set())
    caplog.set_level("INFO", logger=prepared.__name__)
    return lambda: caplog.messages


@pytest.mark.parametrize(
    ("harm", "reason"), [(Path.unlink, "is missing; put it there"), (empty, "is broken; replace it")], ids=["missing", "broken"]
)
def test_arrays_are_used_without_the_originals_of_the_same_folder_in_one_line(in_folder, cache, tmp_path, lines, harm, reason):
    before = prepare(in_folder, "train", cache, silent)
    assert lines() == []
    harm(tmp_path / "toy.txt")
    for again in (in_folder, InFolder(os.path.relpath(tmp_path))):  # as written in another way
        assert prepare(again, "train", cache, silent) == before
    reason = f"{tmp_path / 'toy.txt'} {reason}"
    expected = f"toy: its files cannot be read ({reason}); what was prepared from them on {date.today()} is used"
    assert lines() == [expected]


def test_arrays_of_another_folder_are_not_used_in_place_of_what_is_missing_or_broken(in_folder, cache, tmp_path, lines):
    before = prepare(in_folder, "train", cache, silent)
    other = tmp_path / "other"
    assert f"{other / 'toy.txt'} is missing" in refusal(prepare, InFolder(str(other)), "train", cache, silent)
    other.mkdir()
    (other / "toy.txt").write_text("other")
    assert f"{other / 'toy.txt'} is broken" in refusal(prepare, InFolder(str(other)), "train", cache, silent)
    assert f"{other / 'toy.txt'} is broken" in refusal(data_module(InFolder(str(other)), cache).check, ["train"])
    shutil.copy2(tmp_path / "toy.txt", other)
    assert prepare(InFolder(str(other)), "train", cache, silent) == before  # the same file
    assert lines() == []


@pytest.mark.parametrize("allow_partial", [False, True])
def test_arrays_that_do_not_tell_their_folder_are_used_of_a_whole_dataset(cache, tmp_path, allow_partial):
    """Older versions did not note it."""
    (tmp_path / "toy.txt").write_text("whole")
    before = prepare(InFolder(str(tmp_path), allow_partial), "train", cache, silent)
    meta = json.loads((before.folder / "meta.json").read_text())
    del meta["meta_sha256"], meta["data_dir"]
    (before.folder / "meta.json").write_text(json.dumps(meta | {"meta_sha256": meta_digest(meta)}))
    assert prepare(InFolder(str(tmp_path), allow_partial), "train", cache, silent) == before
    assert find(InFolder("nowhere", allow_partial), "train", cache) == (None if allow_partial else before)


def test_missing_sources_are_said_where_nothing_was_made(cache):
    assert "toy.zip is missing" in refusal(prepare, Gone(), "train", cache, silent)
    assert names_in(cache) == []


# Failures


class NotAnImage(Toy):
    """A user's own dataset, which opens its images with Pillow."""

    def images(self, split):
        yield Image.open(io.BytesIO(b"no image"))


class NoFolder(Toy):
    def classes(self, split):
        return list(Path("/nowhere/at all").iterdir())


def test_a_source_that_cannot_read_its_files_is_not_taken_for_a_cache_that_cannot_be_written(cache):
    message = refusal(prepare, NotAnImage(), "train", cache, silent)
    assert message.startswith("toy: a file cannot be read (cannot identify image file")
    message = refusal(prepare, NoFolder(), "train", cache, silent)
    assert message.startswith(
        "toy: /nowhere/at all cannot be read (No such file or directory); replace it or set paths.data_dir"
    )
    assert message == refusal(data_module(NoFolder(), cache).check, ["train"])


def test_what_is_required_is_there_or_named(tmp_path):
    assert require(tmp_path) == tmp_path
    assert f"{tmp_path / 'images'} is missing" in refusal(require, tmp_path / "images")


def test_a_source_that_fails_midway_leaves_nothing(cache):
    assert "image 13" in refusal(prepare, Broken(), "train", cache, silent)
    assert names_in(cache) == []


def test_a_source_that_fails_leaves_what_was_there(source, cache, tmp_path):
    before = prepare(source, "train", cache, silent)
    change_content(tmp_path / "source")
    refusal(prepare, Broken(folder=str(tmp_path / "source")), "train", cache, silent)
    assert names_in(cache) == ["train"]
    np.testing.assert_array_equal(np.load(before.folder / "images.npy"), all_images())


@pytest.mark.parametrize("wrong", [Misshapen, Short])
def test_images_that_are_not_as_listed_are_refused(cache, wrong):
    assert "toy: class train000 gave images" in refusal(prepare, wrong(), "train", cache, silent)
    assert names_in(cache) == []


def test_a_cache_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("no folder")
    message = refusal(prepare, Toy(), "train", tmp_path / "file" / "cache", silent)
    assert f"paths.cache_dir={tmp_path / 'file' / 'cache'} cannot be written" in message
    assert "set paths.cache_dir=FOLDER" in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into every folder")
def test_a_read_only_cache_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    try:
        message = refusal(prepare, Toy(), "train", tmp_path / "cache", silent)
    finally:
        tmp_path.chmod(0o700)
    assert "Permission denied" in message
    assert "set paths.cache_dir=FOLDER" in message


def test_too_little_room_is_refused_beforehand(source, cache, monkeypatch):
    needed = 10 * IMAGES * 256
    free = [needed - 1, needed]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free.pop(0)))
    message = refusal(prepare, source, "train", cache, silent)
    assert f"paths.cache_dir={cache} has 0 MiB free" in message
    assert "set paths.cache_dir=FOLDER" in message
    assert source.made == 0
    assert names_in(cache) == []
    assert isinstance(prepare(source, "train", cache, silent), PreparedSplit)


# Several processes


FORK = multiprocessing.get_context("fork")  # starts in milliseconds, with everything imported
forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def prepare_held(cache, notes, results):
    split = prepare(HeldToy(notes), "train", cache, (notes / "waiting").write_text)
    results.send((split.images_sha256, split.x.shape))


class Held:
    """A process that prepares the training split of `HeldToy`."""

    def __init__(self, cache, notes):
        self._notes = notes
        self._results, results = FORK.Pipe(duplex=False)
        self.process = FORK.Process(target=prepare_held, args=(cache, notes, results))
        self.process.start()
        results.close()

    def until(self, pattern):
        deadline = time.monotonic() + PATIENCE
        while not list(self._notes.glob(pattern)):
            assert self.process.is_alive(), "the process ended before"
            assert time.monotonic() < deadline, f"no {pattern} appeared"
            time.sleep(0.01)

    def kill(self):
        self.process.kill()
        self.process.join(PATIENCE)

    def result(self):
        assert self._results.poll(PATIENCE)
        self.process.join(PATIENCE)
        assert self.process.exitcode == 0
        return self._results.recv()


@pytest.fixture
def held(tmp_path, cache):
    """Starts processes that hold still until told to go on, and ends them in any case."""
    notes = tmp_path / "notes"
    notes.mkdir()
    started = []

    def start():
        started.append(Held(cache, notes))
        return started[-1]

    yield start
    for one in started:
        if one.process.is_alive():
            one.kill()


@forks
@pytest.mark.slow
def test_a_process_killed_midway_leaves_nothing_half_made(held, cache, tmp_path):
    one = held()
    one.until("begun-*")
    one.kill()
    assert "train" not in names_in(cache)
    assert find(Toy(), "train", cache) is None
    (tmp_path / "notes" / "go").touch()
    split = prepare(HeldToy(tmp_path / "notes"), "train", cache, silent)
    assert names_in(cache) == ["train"]
    np.testing.assert_array_equal(split.x.numpy(), np.concatenate(list(Toy().images("train"))))


@forks
@pytest.mark.slow
def test_a_second_process_waits_and_both_get_the_same_file(held, cache, tmp_path):
    notes = tmp_path / "notes"
    one = held()
    one.until("begun-*")
    other = held()
    other.until("waiting")
    (notes / "go").touch()
    assert one.result() == other.result()
    assert [path.name for path in notes.glob("begun-*")] == [f"begun-{one.process.pid}"]
    assert str(cache / "toy" / "train") in (notes / "waiting").read_text()
    assert names_in(cache) == ["train"]
