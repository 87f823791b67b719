"""Tests of reading archives and images that may be broken or hostile."""

import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fewshot.data.files.archives import LARGEST_MEMBER, LARGEST_SIDE, decode, open_zip, read_member
from fewshot.errors import UserError
from tests.data.fakes import image_bytes, photo, png_of_size, refusal, write_zip

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


# Images


def test_colours_are_kept():
    np.testing.assert_array_equal(decode(image_bytes(photo(1)), "RGB", (84, 84), "x"), photo(1))


def test_grey_is_made_of_colours():
    expected = np.asarray(Image.fromarray(photo(1)).convert("L"))
    np.testing.assert_array_equal(decode(image_bytes(photo(1)), "L", (84, 84), "x"), expected)


def test_colours_are_made_of_grey():
    grey = photo(1)[:, :, 0]
    np.testing.assert_array_equal(decode(image_bytes(grey), "RGB", (84, 84), "x"), np.stack([grey] * 3, axis=2))


def test_one_bit_becomes_black_and_white():
    bits = photo(2)[:, :, 0] > 99
    np.testing.assert_array_equal(decode(image_bytes(bits), "L", (84, 84), "x"), bits.astype(np.uint8) * 255)


def test_a_jpeg_is_read():
    smooth = np.full((84, 84, 3), 130, dtype=np.uint8)
    assert np.abs(decode(image_bytes(smooth, "JPEG"), "RGB", (84, 84), "x").astype(int) - 130).max() <= 1


def test_another_size_is_resized_by_lanczos_to_height_and_width():
    grey = np.ascontiguousarray(photo(3)[:60, :, 0])
    expected = np.asarray(Image.fromarray(grey).resize((20, 28), Image.Resampling.LANCZOS))
    result = decode(image_bytes(grey), "L", (28, 20), "x")
    assert result.shape == (28, 20)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("data", [b"", b"no image", b"<svg/>", image_bytes(photo(1), "GIF"), image_bytes(photo(1), "BMP")])
def test_what_is_neither_png_nor_jpeg_is_refused(data):
    message = refusal(decode, data, "RGB", (84, 84), "folder/one.jpg")
    assert message.startswith("folder/one.jpg cannot be decoded")
    assert "replace the file" in message


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("kept", [3, 20, 40, 200, -2000])
def test_a_truncated_image_is_refused(kind, kept):
    assert "one.jpg" in refusal(decode, image_bytes(photo(1), kind)[:kept], "RGB", (84, 84), "one.jpg")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(LARGEST_SIDE + 1, 1), (1, LARGEST_SIDE + 1), (12_000, 12_000), (200_000, 200_000)])
def test_an_absurd_size_is_refused_before_anything_is_decoded(size):
    message = refusal(decode, png_of_size(*size), "L", (28, 28), "one.png")
    assert message.startswith("one.png")
    assert "replace the file" in message
    assert "claims" in message or "exceeds limit" in message  # our own limit, or that of Pillow


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.data())
def test_damaged_bytes_give_an_image_or_a_refusal(data):
    whole = bytearray(image_bytes(photo(1)[:9, :9], data.draw(st.sampled_from(["PNG", "JPEG"]))))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = decode(bytes(whole), "RGB", (9, 9), "x")
    except UserError:
        return
    assert image.shape == (9, 9, 3)
