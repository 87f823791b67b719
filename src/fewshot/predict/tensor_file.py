"""Files in the safetensors format: tensors by name and nothing that could run (https://huggingface.co/docs/safetensors)."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewshot.errors import UserError
from fewshot.files import written_whole

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}
ALIGNED = 8
"""Bytes that the length of a header is a multiple of, and that the number before it takes."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes tensors, whole or not at all."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    start = 0
    for name, tensor in tensors.items():
        stop = start + tensor.nbytes
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % ALIGNED)
    with written_whole(path) as file:
        file.write(len(text).to_bytes(ALIGNED, "little") + text)
        for tensor in tensors.values():
            file.write(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file and its metadata.

    Raises:
        UserError: it is no whole file of this format.
    """
    try:
        content = path.read_bytes()
        length = int.from_bytes(content[:ALIGNED], "little")
        header: dict[str, Any] = json.loads(content[ALIGNED : ALIGNED + length])
        metadata = header.pop("__metadata__", {})
        data = memoryview(bytearray(content[ALIGNED + length :]))
        found = {name: _tensor(entry, data) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, RuntimeError) as error:
        raise UserError(f"{path} is no whole safetensors file ({type(error).__name__}: {error}); write it anew") from error
    return found, metadata


def _tensor(entry: dict[str, Any], data: memoryview) -> Tensor:
    dtype, shape, (start, stop) = DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
    if stop - start != math.prod(shape) * dtype.itemsize or not 0 <= start <= stop <= len(data):
        raise ValueError("a tensor does not lie in it")
    return torch.frombuffer(data[start:stop], dtype=dtype).view(shape) if stop > start else torch.empty(shape, dtype=dtype)
