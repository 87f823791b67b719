"""Tests of decoding: what people's images hold, and images that are broken or hostile."""

import io
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fewshot.data.images import decode as module
from fewshot.data.images.decode import decode
from fewshot.errors import UserError
from tests.data.fakes import image_bytes, photo, png_of_size, refusal

KINDS = ("PNG", "JPEG", "PPM", "BMP", "WEBP", "TIFF")
GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)
"""Every shade once."""


def saved(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def grey(data: bytes) -> np.ndarray:
    return decode(data, "L", (16, 16), "x")


def test_colours_are_kept():
    np.testing.assert_array_equal(decode(image_bytes(photo(1)), "RGB", (84, 84), "x"), photo(1))


def test_grey_is_made_of_colours():
    expected = np.asarray(Image.fromarray(photo(1)).convert("L"))
    np.testing.assert_array_equal(decode(image_bytes(photo(1)), "L", (84, 84), "x"), expected)


def test_colours_are_made_of_grey():
    grey = photo(1)[:, :, 0]
    np.testing.assert_array_equal(decode(image_bytes(grey), "RGB", (84, 84), "x"), np.stack([grey] * 3, axis=2))


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((2, 1, 10, 5), slice(1, 5), slice(2, 10)),
        ((0, 0, None, -4), slice(0, 12), slice(0, 16)),
        ((-3, 4, 99, None), slice(4, 16), slice(0, 16)),
    ],
)
def test_a_part_of_an_image(box, rows, columns):
    """Its edges count from the image's right and bottom where they are less than 0; what lies outside is left out."""
    wanted = GREY[rows, columns]
    np.testing.assert_array_equal(decode(image_bytes(GREY), "L", wanted.shape, "x", box=box), wanted)


@pytest.mark.parametrize("box", [(16, 0, None, None), (5, 5, 5, 9), (0, 0, None, -16)])
def test_a_part_outside_of_an_image_is_refused(box):
    assert "is outside of 16x16 pixels" in refusal(decode, image_bytes(GREY), "L", (16, 16), "x", box=box)


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


@pytest.mark.parametrize("data", [b"", b"no image", b"<svg/>", image_bytes(photo(1), "GIF")])
def test_what_is_no_image_of_these_kinds_is_refused(data):
    message = refusal(decode, data, "RGB", (84, 84), "folder/one.jpg")
    assert message.startswith("folder/one.jpg cannot be decoded (it is none of PNG, JPEG, ")
    assert "replace the file" in message


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [3, 20, 40, 200, -2000])
def test_a_truncated_image_is_refused(kind, kept):
    assert "one.jpg" in refusal(decode, image_bytes(photo(1), kind)[:kept], "RGB", (84, 84), "one.jpg")


@pytest.mark.parametrize("size", [(10_000, 9_000), (20_000, 20_000), (200_000, 200_000)])
def test_an_absurd_size_is_refused_in_one_line_before_anything_is_decoded(size):
    message = refusal(decode, png_of_size(*size), "L", (28, 28), "one.png")
    assert message.startswith("one.png")
    assert "exceeds limit" in message
    assert "replace the file" in message


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.data())
def test_damaged_bytes_give_an_image_or_a_refusal(data):
    whole = bytearray(image_bytes(photo(1)[:9, :9], data.draw(st.sampled_from(KINDS))))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = decode(bytes(whole), "RGB", (9, 9), "x")
    except UserError:
        return
    assert image.shape == (9, 9, 3)


# Kinds and modes


@pytest.mark.parametrize("kind", ["PNG", "PPM", "BMP", "TIFF"])
def test_every_lossless_kind_gives_the_same_pixels(kind):
    np.testing.assert_array_equal(decode(image_bytes(photo(1), kind), "RGB", (84, 84), "x"), photo(1))


def test_webp_is_read():
    np.testing.assert_array_equal(
        decode(saved(Image.fromarray(photo(1)), "WEBP", lossless=True), "RGB", (84, 84), "x"), photo(1)
    )


DEEP = {
    "16-bit PNG": lambda: saved(Image.fromarray(GREY.astype(np.uint16) * 257)),
    "16-bit TIFF": lambda: saved(Image.fromarray(GREY.astype(np.uint16) * 257), "TIFF"),
    "16-bit PGM": lambda: b"P5 16 16 65535\n" + (GREY.astype(">u2") * 257).tobytes(),
    "32-bit TIFF": lambda: saved(Image.fromarray((GREY * (2.0**31 - 1) / 255).astype(np.int32)), "TIFF"),
    "unsigned 32-bit TIFF": lambda: unsigned((GREY * (2.0**32 - 1) / 255).astype(np.uint32)),
    "float TIFF": lambda: saved(Image.fromarray((GREY / 255).astype(np.float32)), "TIFF"),
}


def unsigned(values: np.ndarray) -> bytes:
    """A TIFF of unsigned 32 bits: its tag of the sample format (339, one SHORT) says 1 where Pillow writes 2, signed."""
    tiff = saved(Image.fromarray(values.view(np.int32)), "TIFF")
    tag = b"\x53\x01\x03\x00\x01\x00\x00\x00"
    assert tiff.count(tag + b"\x02") == 1
    return tiff.replace(tag + b"\x02", tag + b"\x01")


@pytest.mark.parametrize("kind", DEEP)
def test_every_depth_is_scaled_from_black_to_white(kind):
    np.testing.assert_array_equal(grey(DEEP[kind]()), GREY)


@pytest.mark.parametrize(("value", "words"), [(255.0, "to 255 instead"), (-0.5, "from -0.5 to 1"), (np.nan, "nan")])
def test_floats_beyond_0_to_1_are_refused(value, words):
    values = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    values[0, 0] = value
    assert words in refusal(grey, saved(Image.fromarray(values), "TIFF"))


def test_a_few_bits_in_a_deep_image_are_refused_instead_of_black():
    """As of a label map: 12 bits of 32."""
    message = refusal(grey, saved(Image.fromarray(GREY.astype(np.int32) * 16), "TIFF"))
    assert "up to 4080 of 2.14748e+09" in message


INK = np.zeros((16, 16), dtype=np.uint8)
INK[4:8, 4:8] = 255
ON_WHITE = 255 - INK
"""Black ink on transparency, and what is seen of it."""


def with_alpha(mode: str) -> bytes:
    image = Image.fromarray(np.zeros_like(INK)).convert("RGBA" if mode == "P" else mode)
    image.putalpha(Image.fromarray(INK))
    return saved(image.quantize(4) if mode == "P" else image)


def with_colour(transparent: int, dtype: type = np.uint8, mode: str | None = None) -> bytes:
    """Black ink on a grey that is declared transparent."""
    image = Image.fromarray(np.where(INK, 0, transparent).astype(dtype))
    return saved(image.convert(mode), transparency=(transparent,) * 3 if mode == "RGB" else transparent)


TRANSPARENT = {
    "RGBA": lambda: with_alpha("RGBA"),
    "LA": lambda: with_alpha("LA"),
    "palette": lambda: with_alpha("P"),
    "a transparent grey": lambda: with_colour(7),
    "a transparent colour": lambda: with_colour(7, mode="RGB"),
    "a transparent bit": lambda: with_colour(255, mode="1"),
    "a transparent grey of 16 bits": lambda: with_colour(300, np.uint16),
}


@pytest.mark.parametrize("kind", TRANSPARENT)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_what_is_transparent_is_white(kind, mode):
    image = decode(TRANSPARENT[kind](), mode, (16, 16), "x")
    np.testing.assert_array_equal(image if mode == "L" else image[:, :, 2], ON_WHITE)


def test_it_is_said_once_that_transparent_images_are_composited(caplog):
    module._log_composited.cache_clear()
    with caplog.at_level(logging.INFO):
        decode(saved(Image.fromarray(photo(1)).convert("RGBA")), "RGB", (84, 84), "opaque")
        assert not caplog.messages
        for _ in range(2):
            grey(with_alpha("RGBA"))
    assert caplog.messages == ["Transparent images are composited on white"]


def test_a_palette_is_looked_up():
    image = Image.fromarray(GREY).convert("P", palette=Image.Palette.ADAPTIVE)
    image.putpalette(np.repeat(np.arange(256)[::-1], 3).astype(np.uint8).tobytes())
    np.testing.assert_array_equal(grey(saved(image)), 255 - np.asarray(image))


def test_cmyk_is_converted():
    image = Image.fromarray(GREY).convert("RGB").convert("CMYK")
    np.testing.assert_array_equal(grey(saved(image, "TIFF")), GREY)
    assert np.abs(grey(saved(image, "JPEG", quality=100)).astype(int) - GREY).max() <= 3


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, 3), (8, 1)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_a_photograph_is_turned_as_its_exif_says(kind, orientation, turns):
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if kind == "WEBP" else {}
    data = saved(Image.fromarray(np.ascontiguousarray(GREY[:8])).convert("RGB"), kind, exif=exif, **lossless)
    turned = np.rot90(GREY[:8], turns)
    image = decode(data, "L", turned.shape, "x")
    assert np.abs(image.astype(int) - turned).max() <= (20 if kind == "JPEG" else 0)


def test_boxes_are_of_the_photograph_before_it_is_turned():
    """As those who annotate see it: a box at the top left is at the top right of a photograph that is turned to the right."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(np.ascontiguousarray(GREY[:8])), exif=exif)
    np.testing.assert_array_equal(decode(data, "L", (4, 2), "x", box=(0, 0, 4, 2)), np.rot90(GREY[:2, :4], 3))


def test_a_cropped_image_keeps_its_ratio_and_its_centre():
    wide = np.concatenate([np.full((16, 8), 9, dtype=np.uint8), GREY, np.full((16, 8), 9, dtype=np.uint8)], axis=1)
    np.testing.assert_array_equal(decode(image_bytes(wide), "L", (16, 16), "x", crop=True), GREY)
    assert decode(image_bytes(wide), "L", (16, 16), "x").tolist() != GREY.tolist()
    expected = np.asarray(Image.fromarray(GREY).resize((8, 4), Image.Resampling.LANCZOS, (0, 4, 16, 12)))
    np.testing.assert_array_equal(decode(image_bytes(GREY), "L", (4, 8), "x", crop=True), expected)
