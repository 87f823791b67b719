"""Tests of reading archives that may be broken or hostile."""

import io
import resource
import struct
import tarfile
import tempfile
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest

from fewshot.data.files import archives
from fewshot.data.files.archives import LARGEST_MEMBER, members, open_member, open_zip, read_member
from fewshot.data.files.places import Place
from fewshot.data.files.rows import read_text
from tests.data.fakes import image_bytes, photo, refusal, write_tar, write_zip

NAME = "images/one.png"


def field(marker: bytes, offset: int, layout: str, value: int):
    """Overwrites one field of every header of a kind in a zip archive."""

    def change(path):
        data = bytearray(path.read_bytes())
        place = data.find(marker)
        while place >= 0:
            struct.pack_into(layout, data, place + offset, value)
            place = data.find(marker, place + 4)
        path.write_bytes(data)

    return change


def test_a_member_is_read_whole(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"x": b"other", NAME: b"bytes"}, zipfile.ZIP_DEFLATED)
    assert read_member(path, NAME) == b"bytes"


@pytest.mark.parametrize("kept", [0, 1, 30, 100, 0.5, 0.99])
def test_a_truncated_archive_is_refused(tmp_path, kept):
    path = write_zip(tmp_path / "a.zip", {NAME: bytes(range(256)) * 9})
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    message = refusal(open_zip, path)
    assert str(path) in message
    assert "download it again" in message


def test_a_web_page_is_no_archive(tmp_path):
    path = tmp_path / "a.zip"
    path.write_text("<html>404</html>")
    assert str(path) in refusal(open_zip, path)


def test_an_archive_for_a_zip_reader_of_the_future_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {NAME: image_bytes(photo(0))})
    field(b"PK\x01\x02", 6, "<H", 255)(path)
    assert "not a whole zip archive" in refusal(open_zip, path)


def test_a_missing_archive_is_refused(tmp_path):
    assert str(tmp_path / "a.zip") in refusal(open_zip, tmp_path / "a.zip")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_corrupt_member_is_refused(tmp_path, compression):
    path = write_zip(tmp_path / "a.zip", {NAME: bytes(range(256))}, compression)
    data = bytearray(path.read_bytes())
    start = 30 + len(NAME)
    data[start : start + 40] = b"\xff" * 40
    path.write_bytes(data)
    message = refusal(read_member, path, NAME)
    assert str(path) in message
    assert NAME in message
    assert "download the archive again" in message


def test_a_missing_member_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {NAME: b""})
    assert "images/two.png" in refusal(read_member, path, "images/two.png")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param([field(b"PK\x01\x02", 8, "<H", 1), field(b"PK\x03\x04", 6, "<H", 1)], id="encrypted"),
        pytest.param([field(b"PK\x01\x02", 10, "<H", 99), field(b"PK\x03\x04", 8, "<H", 99)], id="unknown compression"),
        pytest.param([field(b"PK\x01\x02", 42, "<I", 7)], id="header elsewhere"),
        pytest.param([field(b"PK\x03\x04", 6, "<H", 0x800), field(b"PK\x03\x04", 30, "<B", 0xFF)], id="name in no encoding"),
    ],
)
def test_a_member_that_zip_cannot_read_is_refused(tmp_path, change):
    path = write_zip(tmp_path / "a.zip", {NAME: b"x" * 100})
    for step in change:
        step(path)
    assert str(path) in refusal(read_member, path, NAME)


def test_a_member_larger_than_any_image_is_refused_unread(tmp_path):
    path = write_zip(tmp_path / "a.zip", {NAME: bytes(LARGEST_MEMBER + 1)}, zipfile.ZIP_DEFLATED)
    message = refusal(read_member, path, NAME)
    assert str(path) in message
    assert str(LARGEST_MEMBER + 1) in message


def test_the_largest_member_is_read(tmp_path):
    path = write_zip(tmp_path / "a.zip", {NAME: bytes(LARGEST_MEMBER)}, zipfile.ZIP_DEFLATED)
    assert len(read_member(path, NAME)) == LARGEST_MEMBER


def test_a_listing_may_be_larger_than_an_image(tmp_path):
    text = b"name\n" + b"0123456789abcdef.jpg\n" * (LARGEST_MEMBER // 20)
    path = write_zip(tmp_path / "a.zip", {NAME: text}, zipfile.ZIP_DEFLATED)
    assert read_text(Place(path, NAME)).encode() == text


def test_a_member_that_lies_about_its_compressed_size_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "SUSPECT", 1000)
    path = write_zip(tmp_path / "a.zip", {NAME: bytes(10**6)}, zipfile.ZIP_DEFLATED)
    field(b"PK\x01\x02", 20, "<I", 10**6)(path)
    assert "unpack to 1000000 and more, which are no data" in refusal(open_member, path, NAME)


def test_a_member_that_lies_about_its_size_does_not_fill_the_memory(tmp_path):
    path = write_zip(tmp_path / "a.zip", {NAME: bytes(8 * LARGEST_MEMBER)}, zipfile.ZIP_DEFLATED)
    field(b"PK\x01\x02", 24, "<I", 1000)(path)
    open_zip(path)
    tracemalloc.start()
    message = refusal(read_member, path, NAME)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert NAME in message
    assert peak < 4 * LARGEST_MEMBER


def test_an_archive_that_was_replaced_is_read_anew(tmp_path):
    """As in a notebook, whose user does what the error said: download the archive again."""
    path = write_zip(tmp_path / "a.zip", {NAME: b"old"})
    assert read_member(path, NAME) == b"old"
    write_zip(tmp_path / "new.zip", {"another": b"before", NAME: b"new"}).replace(path)
    assert read_member(path, NAME) == b"new"


@pytest.fixture
def twice(tmp_path):
    """Writes an archive that holds a name twice."""

    def write(*contents: bytes):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # which zipfile does not like
            for data in contents:
                archive.writestr(NAME, data)
            archive.writestr("images/", b"")
        return tmp_path / "a.zip"

    return write


def test_a_name_that_is_there_twice_with_the_same_content_counts_once(twice):
    assert list(members(twice(b"same", b"same"))) == [NAME]


def test_a_name_with_two_contents_is_refused(twice):
    path = twice(b"one", b"two")
    assert f"{path} holds {NAME} twice" in refusal(members, path)


# Members of any size


def test_a_large_member_that_unpacks_to_a_bomb_is_refused(tmp_path, monkeypatch):
    path = write_zip(tmp_path / "a.zip", {"data.pkl": bytes(2**20)}, zipfile.ZIP_DEFLATED)
    assert len(open_member(path, "data.pkl").read()) == 2**20
    monkeypatch.setattr(archives, "SUSPECT", 2**19)
    assert "unpack to 1048576 and more, which are no data" in refusal(open_member, path, "data.pkl")


# Tar archives


@pytest.mark.parametrize("name", ["a.tar", "a.tgz", "a.tar.gz", "a.tar.bz2"])
def test_members_of_a_tar_are_read_by_name_and_the_last_of_a_name_holds(tmp_path, name):
    path = write_tar(tmp_path / name, {"./x/1": b"one", NAME: b"bytes"})
    assert list(members(path)) == ["x/1", NAME]
    assert [read_member(path, member) for member in (NAME, "x/1")] == [b"bytes", b"one"]
    with open_member(path, NAME) as member:
        assert (member.read(2), member.seek(-2, 2), member.read(), member.read()) == (b"by", 3, b"es", b"")
    assert "has no member y" in refusal(read_member, path, "y")


def test_links_devices_and_folders_in_a_tar_are_no_files(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            entry = tarfile.TarInfo(f"of type {kind!r}")
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
        entry = tarfile.TarInfo("../outside")
        entry.size = 2
        archive.addfile(entry, io.BytesIO(b"ok"))
    assert list(members(path)) == ["../outside"]
    assert read_member(path, "../outside") == b"ok", "a name is a name: nothing is extracted"


@pytest.mark.parametrize("name", ["a.tar", "a.tgz"])
@pytest.mark.parametrize("kept", [0, 1, 30, 700, 0.25, 0.4])
def test_a_truncated_tar_is_refused(tmp_path, name, kept):
    path = write_tar(tmp_path / name, {NAME: np.random.default_rng(0).bytes(3000), "other": b"x"})
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    assert str(path) in refusal(lambda: [read_member(path, member) for member in (NAME, "other")])


def test_a_tar_that_unpacks_to_a_bomb_is_refused(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tgz", {NAME: bytes(2**22)})
    monkeypatch.setattr(archives, "SUSPECT", 2**20)
    assert "which are no data" in refusal(members, path)


def test_a_tar_that_there_is_no_room_to_unpack_is_not_called_broken(tmp_path, monkeypatch):
    """Neither the smallest part of it nor the last."""
    path = write_tar(tmp_path / "a.tgz", {NAME: np.random.default_rng(0).bytes(2**21)})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (100, 2**21):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
            message = refusal(members, path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert message == (
            f"{path} cannot be unpacked into {tempfile.gettempdir()} (File too large); set TMPDIR to a folder with room, or "
            "unpack it"
        )
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert f"{path} cannot be unpacked into {tmp_path / 'nowhere'} (No such file or directory)" in refusal(members, path)
    monkeypatch.undo()
    assert list(members(path)) == [NAME]


def test_a_member_of_a_tar_larger_than_it_may_be_is_refused(tmp_path):
    path = write_tar(tmp_path / "a.tar", {NAME: bytes(2000)})
    assert "has 2000 bytes, more than any listing" in refusal(read_member, path, NAME, 1000)
