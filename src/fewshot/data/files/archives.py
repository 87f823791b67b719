"""Reading archives and images that nobody vouches for: members are read by name, never extracted, and stay data."""

import io
import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fewshot.errors import UserError

LARGEST_MEMBER = 16 * 2**20
"""Bytes; no image of a few-shot data set comes near, a zip bomb does not stop before."""
LARGEST_SIDE = 4096
"""Pixels; a header that promises more is refused before anything is decoded."""


def open_zip(path: Path) -> zipfile.ZipFile:
    """A zip archive, opened once a process unless it is replaced.

    Raises:
        UserError: it is no zip, or truncated.
    """
    try:
        stat = path.stat()
        return _opened(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    except Exception as error:  # a broken table of contents raises whatever it likes
        raise UserError(f"{path} is not a whole zip archive ({error}); download it again") from error


@lru_cache(maxsize=16)
def _opened(path: Path, *_stamp: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def read_member(path: Path, name: str) -> bytes:
    """A member's bytes.

    Raises:
        UserError: the archive is corrupt there, or the member is larger than any image.
    """
    archive = open_zip(path)
    try:
        size, content = archive.getinfo(name).file_size, b""
        if size <= LARGEST_MEMBER:
            with archive.open(name) as member:
                content = member.read(LARGEST_MEMBER + 1)  # a header may lie: `read()` would unpack everything first
    except Exception as error:  # what the table of contents says of a member is believed until it makes no sense
        raise UserError(f"{path}: member {name} is corrupt ({error}); download the archive again") from error
    if size > LARGEST_MEMBER:
        raise UserError(f"{path}: member {name} has {size} bytes, more than any image here; download the archive again")
    return content


def decode(data: bytes, mode: str, size: tuple[int, int], origin: str) -> npt.NDArray[np.uint8]:
    """An image file as ``(H, W)`` (mode ``L``) or ``(H, W, 3)`` (mode ``RGB``), resized by Lanczos where it has another size.

    Args:
        data: PNG or JPEG.
        size: ``(H, W)`` wanted, pixels.
        origin: what to call the image in an error.

    Raises:
        UserError: it is no image of these kinds, truncated, or absurdly large.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if max(image.size) > LARGEST_SIDE:
                raise UserError(f"{origin} claims {image.size[0]}x{image.size[1]} pixels; replace the file")
            converted = image.convert(mode)
            if converted.size != size[::-1]:
                converted = converted.resize(size[::-1], Image.Resampling.LANCZOS)
            return np.asarray(converted)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{origin} cannot be decoded ({error}); replace the file") from error
