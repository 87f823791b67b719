"""Arrays in NumPy's files, believed only where a header promises what the file has."""

import io
import math
import struct
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from fewshot.data.files.archives import open_zip, refuse_bomb
from fewshot.data.files.places import Place
from fewshot.errors import UserError

LOCAL_HEADER = struct.Struct("<26xHH")
"""Of a member of a zip archive: the lengths of its name and of what follows before its bytes."""


def array_names(place: Place) -> list[str]:
    """The names of the arrays in an npz file.

    Raises:
        UserError: it is none.
    """
    return [name.removesuffix(".npy") for name in _npz(place).namelist() if name.endswith(".npy")]


def read_array(place: Place, name: str) -> npt.NDArray[Any]:
    """An array of an npz file, memory-mapped where the file lies uncompressed in a folder.

    Raises:
        UserError: there is none of that name, it holds objects, or its header promises other bytes than there are.
    """
    archive, member = _npz(place), f"{name}.npy"
    try:
        entry = archive.getinfo(member)
        refuse_bomb(entry.file_size, entry.compress_size)
        with archive.open(member) as file:
            shape, fortran_order, dtype = _header(file)
            start = file.tell()
        _require_promised(shape, dtype, entry.file_size - start)
        if place.member is None and entry.compress_type == zipfile.ZIP_STORED and 0 not in shape:
            return _mapped(place.path, entry.header_offset, start, shape, dtype, "F" if fortran_order else "C")
        with archive.open(member) as file:
            array: npt.NDArray[Any] = npy.read_array(file, allow_pickle=False)
            return array
    except Exception as error:  # a broken archive raises whatever it likes
        raise UserError(f"{place}: {name} cannot be read ({error}); download the file again") from error


def map_array(path: Path) -> npt.NDArray[Any]:
    """The array of an npy file, memory-mapped.

    Raises:
        UserError: it cannot be read, holds objects, or its header promises other bytes than there are.
    """
    try:
        with path.open("rb") as file:
            shape, fortran_order, dtype = _header(file)
            start, found = file.tell(), file.seek(0, io.SEEK_END)
        _require_promised(shape, dtype, found - start)
        if 0 in shape:  # nothing can be mapped
            return np.zeros(shape, dtype)
        return np.memmap(path, dtype, "r", start, shape, "F" if fortran_order else "C")
    except Exception as error:  # a header is believed until it makes no sense
        raise UserError(f"{path} cannot be read as an array ({error}); replace the file") from error


def _mapped(path: Path, entry: int, start: int, shape: tuple[int, ...], dtype: np.dtype[Any], order: str) -> npt.NDArray[Any]:
    """An array that begins `start` bytes into an uncompressed member of a zip archive, whose header is at `entry`."""
    with path.open("rb") as file:
        file.seek(entry)
        offset = entry + LOCAL_HEADER.size + sum(LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size)))
    return np.memmap(path, dtype, "r", offset + start, shape, order)  # type: ignore[call-overload,no-any-return]


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the first index runs fastest, and type."""
    read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
    shape, fortran_order, dtype = read(file)
    return shape, fortran_order, dtype


def _require_promised(shape: tuple[int, ...], dtype: np.dtype[Any], found: int) -> None:
    """Raises a ValueError where there are not as many bytes as a header promises."""
    if dtype.hasobject:
        raise ValueError("it holds objects")
    if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize != found:
        raise ValueError(f"it promises {dtype} {shape} and has {found} bytes")


def _npz(place: Place) -> zipfile.ZipFile:
    if place.member is None:
        return open_zip(place.path)
    try:
        return zipfile.ZipFile(place.open())
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{place} is not a whole npz file ({error}); download it again") from error
