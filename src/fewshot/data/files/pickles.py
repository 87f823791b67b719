"""Pickles from the network, read without running what they contain."""

import math
import pickle
import pickletools
import re
from pathlib import Path
from typing import IO, Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from fewshot.data.files.places import Place
from fewshot.errors import UserError

TYPES = re.compile(r"[<>=|]?(?:[biufcSU]\d+|O8?)")
"""Names of NumPy's types of numbers, strings and objects; not of records and dates."""


class _Type:
    """Stands for a ``numpy.dtype``, whose own ``__setstate__`` ends the process where a state is not one that NumPy wrote."""

    def __init__(self, name: str | bytes, *_align_and_copy: Any) -> None:
        name = name.decode("ascii") if isinstance(name, bytes) else name
        if not TYPES.fullmatch(name):
            raise pickle.UnpicklingError(f"it has an array of the type {name[:40]!r}, which is not of numbers or strings")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order: Any
        _version, order, *fields = state[:5]
        if fields != [None, None, None]:
            raise pickle.UnpicklingError("it has an array of records")
        order = order.decode("ascii") if isinstance(order, bytes) else order
        self.dtype = self.dtype.newbyteorder(order)


class _Array(np.ndarray[Any, Any]):
    """An array whose state is checked before NumPy gets it, and set once, as others may already use its memory."""

    __slots__ = ("filled",)

    def __setstate__(self, state: Any) -> None:
        _version, shape, kind, in_columns, data = state
        dtype, count = kind.dtype, math.prod(shape)
        data = data.encode("latin1") if isinstance(data, str) else data
        needed, size = (list, count) if dtype.hasobject else (bytes, count * dtype.itemsize)
        if type(data) is not needed or len(data) != size or min(shape, default=0) < 0 or hasattr(self, "filled"):
            raise pickle.UnpicklingError(f"an array of {str(shape)[:40]} {dtype} has other data")
        self.filled = True
        checked: Any = (1, shape, dtype, bool(in_columns), data)
        super().__setstate__(checked)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return self.view(np.ndarray).__reduce_ex__(protocol)


def _array(*_kind_shape_and_code: Any) -> _Array:
    """An empty array, whose state follows."""
    return _Array((0,), np.uint8)


def _from_buffer(buffer: bytes | bytearray, kind: _Type, shape: tuple[int, ...], order: str) -> npt.NDArray[Any]:
    if not isinstance(buffer, bytes | bytearray):
        raise pickle.UnpicklingError(f"an array has {type(buffer).__name__} as its data")
    return np.frombuffer(buffer, kind.dtype).reshape(shape, order="F" if order == "F" else "C")


def _number(kind: _Type, data: bytes | str) -> Any:
    """A NumPy number from its bytes; NumPy's own function would also take objects."""
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, kind.dtype, count=1)[0]


def _encode(text: str, encoding: str) -> bytes:
    """How Python 2 and protocol 2 write bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it has bytes in the encoding {encoding!r}")
    return text.encode("latin1")


ADMITTED = {
    ("numpy", "ndarray"): None,  # named as the class of an array, and never called
    ("numpy", "dtype"): _Type,
    ("numpy._core.multiarray", "_reconstruct"): _array,
    ("numpy._core.multiarray", "scalar"): _number,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,
    ("builtins", "range"): range,
}
"""What arrays and numbers are made by, and what makes them here; lists, dicts, strings and numbers need no name."""


class _DataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "PIL":
            raise pickle.UnpicklingError("it holds Pillow's images, which are objects and no data; save them as image files")
        known = (module.replace("numpy.core.", "numpy._core."), name)  # as NumPy 2 calls what NumPy 1 wrote
        if known not in ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no data")
        return ADMITTED[known]


def _require_modest_memo(file: IO[bytes]) -> None:
    """Refuses numbers of remembered objects beyond their count, for which Python takes up to 64 GiB of memory."""
    for count, (operation, number, _) in enumerate(pickletools.genops(file)):
        if operation.name in ("PUT", "LONG_BINPUT") and number is not None and number > count:
            raise pickle.UnpicklingError(f"it remembers object {number} as its {count}th at the most")


def load_pickle(path: Path | Place) -> Any:
    """The lists, dicts and arrays of a pickle; strings that Python 2 wrote are strings, or arrays' bytes.

    Raises:
        UserError: it is truncated, no pickle, or holds anything that is not data.
    """
    try:
        with path.open("rb") if isinstance(path, Path) else path.open() as file:
            _require_modest_memo(file)
        with path.open("rb") if isinstance(path, Path) else path.open() as file:
            return _DataUnpickler(file, encoding="latin1").load()
    except UserError:  # of the archive that it lies in
        raise
    except Exception as error:  # a hostile pickle raises whatever it likes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} is not a pickle of plain data ({reason}); download it again") from error


def type_name(content: Any) -> str:
    """What something of a pickle is called in a refusal: arrays as everywhere."""
    return "ndarray" if isinstance(content, np.ndarray) else type(content).__name__


def load_dict(path: Path | Place) -> dict[str, Any]:
    """A pickled dict whose keys are strings, or bytes, as in pickles that were read without knowing their encoding.

    Raises:
        UserError: it is no such dict.
    """
    content = load_pickle(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type_name(content)} instead of a dict; download it again")
    return {key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in content.items()}
