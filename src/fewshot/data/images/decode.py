"""Image files of all kinds as arrays of uint8: the one place where pixels are read."""

import io
import logging
import warnings
from functools import cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fewshot.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger(__name__)

FORMATS = ("PNG", "JPEG", "PPM", "BMP", "WEBP", "TIFF")
"""Pillow's names of what is read."""
MODES = {1: "L", 3: "RGB"}
"""Pillow's mode of so many channels."""
PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")
"""Pillow's modes that a PNG keeps as they are, transparency too."""
TIFF_BITS, TIFF_SAMPLE_FORMAT, TIFF_SIGNED = 258, 339, 2
"""Tags of a TIFF, and what the latter says of signed numbers."""
Box = tuple[int, int, int | None, int | None]
"""Left, top, right and bottom of a part of an image, pixels; None is the image's edge, and less than 0 counts from there."""


def decode(
    data: bytes, mode: str, size: tuple[int, int], origin: str, crop: bool = False, box: Box | None = None
) -> npt.NDArray[np.uint8]:
    """An image file as ``(H, W)`` (mode ``L``) or ``(H, W, 3)`` (mode ``RGB``).

    An image is turned as its EXIF says, scaled from its bit depth to 8 bits (floats are taken as 0 to 1), composited on white
    where it is transparent, converted to `mode`, and resized by Lanczos where it has another size.

    Args:
        data: PNG, JPEG, PPM, BMP, WebP or TIFF (its first page), grey, palette, colour or CMYK, with or without alpha.
        size: ``(H, W)`` wanted, pixels.
        origin: what to call the image in an error, its path.
        crop: keep the ratio of width to height by cutting off the longer side, the centre stays; else the image is stretched.
        box: the part of the image that is taken, before it is turned, as far as it lies in it; None takes all.

    Raises:
        UserError: it is no image of these kinds, truncated, absurdly large (Pillow's limit), without a known range, or the box
            lies outside.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    _refuse_bombs()
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            taken = image if box is None else image.crop(_within(image.size, box))
            ImageOps.exif_transpose(taken, in_place=True)
            converted = _opaque(_to_8_bits(taken)).convert(mode)
        if converted.size != size[::-1]:
            converted = converted.resize(size[::-1], Image.Resampling.LANCZOS, _centre(converted.size, size) if crop else None)
        return np.asarray(converted)
    except UnidentifiedImageError as error:  # whose words are the address of an object
        raise UserError(f"{origin} cannot be decoded (it is none of {', '.join(FORMATS)}); replace the file") from error
    except Exception as error:  # a hostile image raises whatever it likes
        raise UserError(f"{origin} cannot be decoded ({error}); replace the file") from error


def channels_first(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """``(H, W)`` or ``(H, W, C)`` as ``(C, H, W)``."""
    return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1))


def white_on_black(drawing: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A grey drawing ``(H, W)`` with light ink on dark ground: one whose border is light is inverted."""
    border = np.concatenate([drawing[0], drawing[-1], drawing[1:-1, 0], drawing[1:-1, -1]])
    return 255 - drawing if np.median(border) > 127 else drawing


def image_file(item: Any) -> tuple[bytes, str]:
    """An image (a path, one of Pillow's, an array ``(H, W)`` or ``(H, W, C)`` of uint8) as a file, and what to call it.

    Raises:
        UserError: there is no such file, or it is no image.
    """
    from PIL import Image, ImageOps

    if isinstance(item, bytes):
        return item, "an image"
    if isinstance(item, str | PathLike):
        try:
            return Path(item).read_bytes(), str(item)
        except (OSError, ValueError) as error:
            raise UserError(f"{item} cannot be read ({getattr(error, 'strerror', error)}); give an image file") from error
    if isinstance(item, np.ndarray) and item.dtype == np.uint8 and item.ndim in (2, 3):
        try:
            item = Image.fromarray(item[:, :, 0] if item.ndim == 3 and item.shape[2] == 1 else item)
        except (TypeError, ValueError) as error:  # of so many channels, or without pixels
            raise UserError(f"an array of shape {list(item.shape)} is no image; give (H, W), or (H, W, 3)") from error
    if not isinstance(item, Image.Image):
        raise UserError(f"{type(item).__name__} is no image; give a path, an image of Pillow, or an array of uint8")
    file = io.BytesIO()
    ImageOps.exif_transpose(item).save(file, "PNG" if item.mode in PNG_MODES else "TIFF")
    return file.getvalue(), getattr(item, "filename", "") or "an image"


@cache
def _refuse_bombs() -> None:
    """Pillow only warns of images that have between one and two times its limit of pixels."""
    from PIL import Image

    warnings.simplefilter("error", Image.DecompressionBombWarning)


def _to_8_bits(image: "Image.Image") -> "Image.Image":
    """Grey of 16 or 32 bits or floats, from black to white of its bit depth; Pillow's own `convert` cuts off at 255."""
    from PIL import Image

    if image.mode != "F" and image.mode.split(";")[0] != "I":
        return image
    values, white = np.asarray(image).astype(np.float64), 1.0
    if image.mode != "F":
        tags = getattr(image, "tag_v2", {})
        bits = tags.get(TIFF_BITS, (16,))[0]
        signed = tags.get(TIFF_SAMPLE_FORMAT, (1,))[0] == TIFF_SIGNED
        white = 2.0 ** (bits - signed) - 1
        if not signed:
            values %= 2.0**bits  # Pillow has no unsigned 32 bits
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= white):  # nor where they are none
        raise ValueError(f"its numbers go from {low:g} to {high:g} instead of from 0 to {white:g}")
    scaled = np.rint(values * (255 / white)).astype(np.uint8)
    if high and not scaled.any():
        raise ValueError(f"its numbers go up to {high:g} of {white:g}, which is black; save it with fewer bits")
    grey = Image.fromarray(scaled)
    if isinstance(transparent := image.info.get("transparency"), int):
        grey.putalpha(Image.fromarray(values != transparent).convert("L"))
    return grey


def _opaque(image: "Image.Image") -> "Image.Image":
    """The image on white, where it is transparent."""
    from PIL import Image

    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    if image.getchannel("A").getextrema() == (255, 255):
        return image
    _log_composited()
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


@cache
def _log_composited() -> None:
    log.info("Transparent images are composited on white")


def _centre(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest box of an image ``(W, H)`` around its centre that has the ratio of ``(H, W)``."""
    width, height = size
    scale = min(width / wanted[1], height / wanted[0])
    left, top = (width - scale * wanted[1]) / 2, (height - scale * wanted[0]) / 2
    return left, top, width - left, height - top


def _within(size: tuple[int, int], box: Box) -> tuple[int, int, int, int]:
    """The part of a box that lies in an image ``(W, H)``."""
    edges = [
        edge if edge is not None and edge >= 0 else length + (edge or 0) for edge, length in zip(box[2:], size, strict=True)
    ]
    left, top, right, bottom = max(box[0], 0), max(box[1], 0), min(edges[0], size[0]), min(edges[1], size[1])
    if left >= right or top >= bottom:
        raise ValueError(f"its box {box} is outside of {size[0]}x{size[1]} pixels")
    return left, top, right, bottom
