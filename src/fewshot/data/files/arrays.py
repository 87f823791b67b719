"""Arrays in NumPy's files, believed only where a header promises what the file has."""

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from fewshot.data.files.archives import open_zip, refuse_bomb
from fewshot.data.files.places import Place
from fewshot.errors import UserError
from fewshot.npy_file import header_of, require_promised

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
            shape, fortran_order, dtype = header_of(file)
            start = file.tell()
        require_promised(shape, dtype, entry.file_size - start)
        if place.member is None and entry.compress_type == zipfile.ZIP_STORED and 0 not in shape:
            return _mapped(place.path, entry.header_offset, start, shape, dtype, "F" if fortran_order else "C")
        with archive.open(member) as file:
            array: npt.NDArray[Any] = npy.read_array(file, allow_pickle=False)
            return array
    except Exception as error:  # a broken archive raises whatever it likes
        raise UserError(f"{place}: {name} cannot be read ({error}); download the file again") from error


def _mapped(path: Path, entry: int, start: int, shape: tuple[int, ...], dtype: np.dtype[Any], order: str) -> npt.NDArray[Any]:
    """An array that begins `start` bytes into an uncompressed member of a zip archive, whose header is at `entry`."""
    with path.open("rb") as file:
        file.seek(entry)
        offset = entry + LOCAL_HEADER.size + sum(LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size)))
    return np.memmap(path, dtype, "r", offset + start, shape, order)  # type: ignore[call-overload,no-any-return]


def _npz(place: Place) -> zipfile.ZipFile:
    if place.member is None:
        return open_zip(place.path)
    try:
        return zipfile.ZipFile(place.open())
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{place} is not a whole npz file ({error}); download it again") from error
