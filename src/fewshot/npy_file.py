"""An array in a file of NumPy's own, believed only where its header promises what the file has."""

import io
import math
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from fewshot.errors import UserError


def map_array(path: Path) -> npt.NDArray[Any]:
    """The array of an npy file, memory-mapped.

    Raises:
        UserError: it cannot be read, holds objects, or its header promises other bytes than there are.
    """
    try:
        with path.open("rb") as file:
            shape, fortran_order, dtype = header_of(file)
            start, found = file.tell(), file.seek(0, io.SEEK_END)
        require_promised(shape, dtype, found - start)
        if 0 in shape:  # nothing can be mapped
            return np.zeros(shape, dtype)
        return np.memmap(path, dtype, "r", start, shape, "F" if fortran_order else "C")
    except Exception as error:  # a header is believed until it makes no sense
        raise UserError(f"{path} cannot be read as an array ({error}); replace the file") from error


def header_of(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the first index runs fastest, and type."""
    read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
    shape, fortran_order, dtype = read(file)
    return shape, fortran_order, dtype


def require_promised(shape: tuple[int, ...], dtype: np.dtype[Any], found: int) -> None:
    """Raises a ValueError where there are not as many bytes as a header promises."""
    if dtype.hasobject:
        raise ValueError("it holds objects")
    if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize != found:
        raise ValueError(f"it promises {dtype} {shape} and has {found} bytes")
