"""Pickles from the network, read without running what they contain."""

import pickle
import pickletools
from pathlib import Path
from typing import IO, Any

import numpy as np

from fewshot.data.files.places import Place
from fewshot.errors import UserError

ADMITTED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
    ("builtins", "range"),
}
"""What an array of numbers needs; lists, dicts, strings and numbers need no name."""


SCALAR = {("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar")}
"""How NumPy writes a single number, as in a list of labels."""


def _number(dtype: np.dtype[Any], data: bytes | str) -> Any:
    """A NumPy number from its bytes; NumPy's own function would also take objects."""
    if dtype.hasobject:
        raise pickle.UnpicklingError("it holds an object in place of a number")
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype, count=1)[0]


class _DataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in SCALAR:
            return _number
        if module.partition(".")[0] == "PIL":
            raise pickle.UnpicklingError("it holds Pillow's images, which are objects and no data; save them as image files")
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no data")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)  # as NumPy 2 calls what NumPy 1 wrote


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


def load_dict(path: Path | Place) -> dict[str, Any]:
    """A pickled dict whose keys are strings, or bytes, as in pickles that were read without knowing their encoding.

    Raises:
        UserError: it is no such dict.
    """
    content = load_pickle(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__} instead of a dict; download it again")
    return {key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in content.items()}
