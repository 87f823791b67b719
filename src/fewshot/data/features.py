"""Features of a frozen network, computed once for every row of prepared images or sentences, which become vectors.

They are kept beside the images, in a file named by the digests of both, so that other weights, another preprocessing or other
images have a file of their own.
"""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fewshot.data.preparation import locked
from fewshot.data.prepared import CHUNK, PreparedSplit, is_whole, mapped
from fewshot.data.progress import counted
from fewshot.errors import UserError
from fewshot.files import write_json

FORMAT = 1
"""Of what a feature depends on beside the image and the network; raised when it changes."""
ROWS = 256
"""Rows between two savings, and together on a GPU."""


class FrozenNetwork(Protocol):
    """What computes features, each of its row alone.

    Attributes:
        out_features: numbers of a feature.
        column: of the data, whose values (sentences) it takes; None of one that takes the rows' inputs.
        sha256: of its weights and all else that a feature depends on.
    """

    out_features: int
    column: str | None

    @property
    def sha256(self) -> str: ...

    def __call__(self, x: Any) -> Tensor: ...


@dataclass(frozen=True)
class Features:
    """A file of features ``(rows, D)``; it pickles as its path, so that workers map the same file."""

    path: Path

    @cached_property
    def x(self) -> Tensor:
        """Memory-mapped."""
        return mapped(self.path)

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path}


def compute_features(
    images: PreparedSplit,
    network: FrozenNetwork,
    scale: Callable[[Tensor], Tensor],
    device: torch.device,
    notify: Callable[[str], None],
    verify: str = "quick",
) -> Features:
    """The features of all rows of prepared images, computed unless their file is there and whole.

    A process that is stopped leaves what it has computed, and the next goes on from there; processes that want the same file
    meanwhile wait.

    Args:
        network: on the device.
        scale: makes the network's inputs of images.
        notify: takes a line where this process waits for another.
        verify: how a file is held against its digest (`prepared.find`).

    Raises:
        UserError: the file cannot be written, or a feature is not finite.
    """
    about = {"format": FORMAT, "images": images.images_sha256, "network": network.sha256, "device": device.type}
    about["scale"] = repr(scale)
    if network.column is not None:
        about["values"] = hashlib.sha256(json.dumps(images.columns[network.column]).encode()).hexdigest()
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    path = images.folder / f"features-{key[:16]}.npy"
    if _is_computed(path, verify):  # perhaps in a folder that is read only
        return Features(path)
    try:
        with locked(path.with_suffix(".lock"), notify):
            if not _is_computed(path, verify):
                _compute(path, images, network, scale, device)
    except OSError as error:
        raise UserError(
            f"features cannot be kept in {images.folder} ({error.strerror or error}); make room there or set "
            "paths.cache_dir=FOLDER"
        ) from error
    return Features(path)


def _is_computed(path: Path, verify: str) -> bool:
    with suppress(OSError, ValueError, KeyError, TypeError):
        return is_whole(path.parent, json.loads(path.with_suffix(".json").read_text("utf-8"))["sha256"], path.name, verify)
    return False


def _compute(
    path: Path, images: PreparedSplit, network: FrozenNetwork, scale: Callable[[Tensor], Tensor], device: torch.device
) -> None:
    def inputs(rows: slice) -> Any:
        return scale(images.x[rows].to(device)) if network.column is None else images.columns[network.column][rows]

    rows, width = len(images.x), 4 * network.out_features
    part, progress = path.with_suffix(".part"), path.with_suffix(".json")
    header = BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (rows, network.out_features)}
    )
    digest, done = _computed_before(part, progress, header.getvalue())
    first = max(0, done - len(header.getvalue())) // width
    what = f"Features of {images.source.name} {images.folder.name}"
    with part.open("r+b" if done else "wb") as file, counted(what, rows, first) as count:
        if not done:
            file.write(header.getvalue())
        file.truncate(done or None)
        file.seek(0, os.SEEK_END)
        for start in range(first, rows, ROWS):
            with torch.no_grad():
                found = network(inputs(slice(start, start + ROWS)))
            if not (finite := found.isfinite().all(dim=1)).all():
                row = start + int(finite.int().argmin())
                raise UserError(
                    f"the network's feature of row {row} of {images.source.name} {images.folder.name} is not finite; check "
                    "model.backbone.weights and the image"
                )
            data = found.to("cpu", torch.float32).contiguous().numpy().astype("<f4", copy=False).tobytes()
            file.write(data)
            digest.update(data)
            file.flush()
            os.fsync(file.fileno())
            write_json(progress, {"bytes": file.tell(), "sha256": digest.hexdigest()})
            count(len(found))
    part.replace(path)


def _computed_before(part: Path, progress: Path, header: bytes) -> tuple[Any, int]:
    """The digest so far and the number of bytes of an unfinished file; those of the header and 0 where there is none."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        saved = json.loads(progress.read_text("utf-8"))
        with part.open("rb") as file:
            digest = hashlib.sha256(file.read(len(header)))
            if digest.digest() != hashlib.sha256(header).digest():
                return hashlib.sha256(header), 0
            for start in range(len(header), saved["bytes"], CHUNK):
                digest.update(file.read(min(CHUNK, saved["bytes"] - start)))
        if digest.hexdigest() == saved["sha256"]:
            return digest, saved["bytes"]
    return hashlib.sha256(header), 0
