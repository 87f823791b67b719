"""MATLAB's files, as older data sets keep their labels in."""

import io
import struct
import zlib
from typing import Any

from fewshot.data.files.places import Place
from fewshot.errors import UserError

HEADER = 128
"""Bytes before the first array (MAT-file format, level 5)."""
COMPRESSED = 15
"""Type of an array that is compressed."""
LARGEST = 256 * 2**20
"""Bytes of an array, uncompressed; labels of a few-shot data set come nowhere near."""


def load_mat(place: Place) -> dict[str, Any]:
    """The arrays of a MATLAB file, by name; structures are arrays with named fields.

    Raises:
        UserError: it is no such file, or an array in it is absurdly large.
    """
    from scipy.io import loadmat

    data = place.read()
    try:
        _refuse_bombs(data)
        return dict(loadmat(io.BytesIO(data), squeeze_me=True))
    except Exception as error:  # a hostile file raises whatever it likes
        raise UserError(f"{place} is no MATLAB file ({error}); replace the file") from error


def _refuse_bombs(data: bytes) -> None:
    order, at = ">" if data[126:128] == b"MI" else "<", HEADER
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if kind == COMPRESSED and len(zlib.decompressobj().decompress(data[at + 8 : at + 8 + size], LARGEST + 1)) > LARGEST:
            raise ValueError(f"it unpacks to more than {LARGEST} bytes")
        at += 8 + size
