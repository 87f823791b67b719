"""The format of MNIST and its kin: a short header, then numbers (LeCun et al. 1998), often compressed by gzip."""

import gzip
import math
import struct
from typing import IO

import numpy as np
import numpy.typing as npt

from fewshot.data.files.places import Place
from fewshot.errors import UserError

GZIP = b"\x1f\x8b"
UINT8 = b"\x00\x00\x08"
"""What a file of bytes begins with; the number of dimensions follows."""
LARGEST = 2**30
"""Bytes of an array; EMNIST has half of it."""
CHUNK = 2**22
"""Bytes read at a time: a header that promises more than there is costs no more than what there is."""


def read_idx(place: Place, dimensions: int) -> npt.NDArray[np.uint8]:
    """The array of bytes in an idx file, compressed or not.

    Args:
        place: of the file.
        dimensions: that the array must have.

    Raises:
        UserError: it is no such file, promises more than any dataset has, or holds more or less than it promises.
    """
    try:
        with place.open() as file:
            compressed = file.read(len(GZIP)) == GZIP
        with place.open() as file:
            return _array(gzip.GzipFile(fileobj=file) if compressed else file, dimensions)
    except UserError:
        raise
    except Exception as error:  # what is compressed raises whatever it likes
        raise UserError(f"{place} is no whole idx file ({error}); download it again") from error


def _array(file: IO[bytes] | gzip.GzipFile, dimensions: int) -> npt.NDArray[np.uint8]:
    header = file.read(4 + 4 * dimensions)
    if len(header) < 4 + 4 * dimensions or header[:4] != UINT8 + bytes([dimensions]):
        raise ValueError(f"it does not begin as an array of bytes in {dimensions} dimensions does")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    promised = math.prod(shape)
    if promised > LARGEST:
        raise ValueError(f"its header promises {promised:,} bytes")
    data = bytearray()
    while chunk := file.read(min(CHUNK, promised + 1 - len(data))):
        data += chunk
    if len(data) != promised:
        more = "more than" if len(data) > promised else f"{len(data):,} of"
        raise ValueError(f"it holds {more} the {promised:,} bytes that its header promises")
    return np.frombuffer(data, np.uint8).reshape(shape)
