"""MATLAB's files (level 5), as older datasets keep their labels in.

SciPy reads them too, and ends the process where one is broken in the wrong place.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from fewshot.data.files.places import Place
from fewshot.errors import UserError

HEADER = 128
"""Bytes before the first array."""
LARGEST = 64 * 2**20
"""Bytes of all arrays, uncompressed; labels of a few-shot dataset come nowhere near."""
HDF5 = b"\x89HDF\r\n\x1a\n"
"""What its files begin with, after a header of 512 bytes where MATLAB writes them."""
COMPRESSED, MATRIX = 15, 14
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""NumPy's type of each type of element that holds numbers."""
TEXTS = {1: "latin1", 2: "latin1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
"""The encoding of each type of element that holds text."""
STRUCT, TEXT, NUMERIC = 2, 4, range(6, 16)
"""Classes of arrays."""


def load_mat(place: Place) -> dict[str, Any]:
    """The arrays of a MATLAB file by name: NumPy's of numbers, strings, and lists of dicts of structures.

    Raises:
        UserError: it is no such file, or an array in it is absurdly large, or of another class.
    """
    data = place.read()
    if data.startswith(b"MATLAB 7.3") or HDF5 in (data[:8], data[512:520]):
        raise UserError(f"{place} is of MATLAB 7.3, whose files are HDF5; save it with save(..., '-v7')")
    order = {b"IM": "<", b"MI": ">"}.get(data[HEADER - 2 : HEADER])
    if order is None:
        raise UserError(f"{place} is no MATLAB file of level 5 ({len(data):,} bytes, with another header); replace the file")
    try:
        return dict(_arrays(data[HEADER:], order))
    except Exception as error:  # a hostile file is believed until it makes no sense
        raise UserError(f"{place} is no MATLAB file of level 5 ({error!r}); replace the file") from error


def _arrays(data: bytes, order: str) -> Iterator[tuple[str, Any]]:
    """Name and value of each array."""
    total = 0
    for kind, content in _elements(data, order):
        if (total := total + len(content)) > LARGEST:
            raise ValueError(f"it unpacks to more than {LARGEST} bytes")
        if kind == MATRIX:
            yield _array(content, order)


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and content of the elements that bytes consist of, uncompressed."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        start = at + 8
        if kind >> 16:  # a small one, with its size and content where others have their size
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
            at += 8
        else:
            at = start + size + (-size % 8 if kind != COMPRESSED else 0)
        if start + size > len(data):
            raise ValueError(f"an element of {size} bytes ends after {len(data) - start}")
        content = data[start : start + size]
        if kind == COMPRESSED:
            unpacked = zlib.decompressobj().decompress(content, LARGEST + 1)
            if len(unpacked) > LARGEST:
                raise ValueError(f"it unpacks to more than {LARGEST} bytes")
            yield from _elements(unpacked, order)
        else:
            yield kind, content


def _array(data: bytes, order: str) -> tuple[str, Any]:
    """The name and the value of an array."""
    elements = _elements(data, order)
    flags, shape, name = (next(elements)[1] for _ in range(3))
    kind = struct.unpack_from(f"{order}I", flags)[0] & 0xFF
    return name.decode("latin1"), _value(kind, np.frombuffer(shape, f"{order}i4").tolist(), elements, order)


def _value(kind: int, shape: list[int], elements: Iterator[tuple[int, bytes]], order: str) -> Any:
    if kind in NUMERIC:
        of, content = next(elements)
        return np.frombuffer(content, order + NUMBERS[of]).reshape(shape, order="F")
    if kind == TEXT:
        of, content = next(elements, (16, b""))
        encoding = TEXTS[of]
        return content.decode(encoding + ("-le" if order == "<" else "-be") * (encoding in ("utf-16", "utf-32")))
    if kind == STRUCT:
        length = struct.unpack_from(f"{order}i", next(elements)[1])[0]
        names = next(elements)[1]
        fields = [names[i : i + length].split(b"\0")[0].decode("latin1") for i in range(0, len(names), length)]
        values = [_array(content, order)[1] for _, content in elements]
        if len(values) != math.prod(shape) * len(fields):
            raise ValueError(f"{len(values)} values are no structures {shape} with {len(fields)} fields")
        return [dict(zip(fields, values[i : i + len(fields)], strict=True)) for i in range(0, len(values), max(1, len(fields)))]
    raise ValueError(f"an array of class {kind} is not read here")
