"""Pickles from the network, read without running what they contain."""

import pickle
from pathlib import Path
from typing import Any

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


class _DataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no data")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)  # as NumPy 2 calls what NumPy 1 wrote


def load_pickle(path: Path) -> Any:
    """The lists, dicts and arrays of a pickle.

    Raises:
        UserError: it is truncated, no pickle, or holds anything that is not data.
    """
    try:
        with path.open("rb") as file:
            return _DataUnpickler(file, encoding="latin1").load()
    except Exception as error:  # a hostile pickle raises whatever it likes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} is not a pickle of plain data ({reason}); download it again") from error
