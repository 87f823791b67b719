"""Preparing a part of a source: its rows are decoded once, into files that appear whole or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from fewshot.data.prepared import (
    CHECKED,
    TARGETS,
    PreparedSplit,
    file_digest,
    find,
    folder_of,
    identity,
    inputs_file,
    meta_digest,
    sources_stamp,
    stamp_of,
)
from fewshot.data.progress import counted
from fewshot.data.source import ArraySpec, ImageClass, Source, reading, table_of
from fewshot.errors import UserError


def prepare(source: Source, split: str, cache_dir: Path, notify: Callable[[str], None], verify: str = "quick") -> PreparedSplit:
    """Makes a split's prepared files unless they are there, whole, and made from the same sources by the same code.

    Processes that ask for the same split meanwhile wait. Files appear whole or not at all: what a killed process left is
    swept away by the next.

    Args:
        notify: takes a line where this process waits for another.
        verify: how files are held against their digests (`find`).

    Raises:
        UserError: sources are missing or corrupt, or `cache_dir` cannot be written or is full.
    """
    found = find(source, split, cache_dir, verify)
    if found is not None:
        return found
    try:
        (cache_dir / source.name).mkdir(parents=True, exist_ok=True)
        with locked(cache_dir / source.name / f"{split}.lock", notify):
            found = find(source, split, cache_dir, verify)  # another process may have made it meanwhile
            return found if found is not None else _make(source, split, folder_of(source, split, cache_dir))
    except OSError as error:
        raise UserError(
            f"paths.cache_dir={cache_dir} cannot be written ({error.strerror or error}); "
            "make room there or set paths.cache_dir=FOLDER"
        ) from error


def _make(source: Source, split: str, folder: Path) -> PreparedSplit:
    """Writes a part into a folder of this process, which then takes the place of `folder`."""
    with reading(source):
        classes, files = tuple(source.classes(split)), source.files(split)
        columns = {name: list(names) for name, names in source.columns(split).items()}
    rows = len(table_of(source, classes, columns))
    specs = {inputs_file(source): source.x} | ({} if source.y is None else {TARGETS: source.y})
    for remains in folder.parent.glob(f"{split}.part-*"):
        shutil.rmtree(remains, ignore_errors=True)
    part = folder.parent / f"{split}.part-{os.getpid()}"
    part.mkdir()
    try:
        _require_room(part, sum(rows * int(np.prod(s.shape)) * np.dtype(s.dtype).itemsize for s in specs.values()))
        digests = _write_arrays(source, split, part, specs, classes, rows)
        with reading(source):
            sources_sha256, stamp = _sources_sha256(files), sources_stamp(files)
        images_sha256 = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
        meta = {
            **identity(source),
            "name": source.name,
            "split": split,
            "images_sha256": images_sha256,
            "file_sha256": file_digest(part / inputs_file(source)),
            "sources_sha256": sources_sha256,
            "sources_stamp": stamp,
            "data_dir": source.data_dir,
            "classes": [list(asdict(c).values()) for c in classes],
        }
        if source.y is not None:
            meta["targets_file_sha256"] = file_digest(part / TARGETS)
        if columns:
            meta["columns"] = columns
        stamps = {name: stamp_of(part / name) for name in specs}
        (part / CHECKED).write_text(json.dumps(stamps), "utf-8")
        (part / "meta.json").write_text(json.dumps(meta | {"meta_sha256": meta_digest(meta)}, indent=1), "utf-8")
        if folder.exists():  # outdated or corrupt; processes that mapped it keep their mapping
            shutil.rmtree(folder)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return PreparedSplit(source, folder, classes, columns, images_sha256, sources_sha256, stamps)


def _write_arrays(
    source: Source,
    split: str,
    folder: Path,
    specs: Mapping[str, ArraySpec],
    classes: Sequence[ImageClass],
    rows: int,
) -> list[str]:
    """Writes the arrays of a part, block by block, under a progress bar.

    Args:
        specs: of each array, by the name of its file.
        classes: each of which is a block; none where rows have no class.
        rows: of all blocks.

    Returns:
        the sha256 of each array's bytes.

    Raises:
        UserError: the source has other rows than it lists.
    """
    what = f"Preparing {source.name} {split}, {'classes' if classes else 'rows'}"
    with ExitStack() as stack, counted(what, len(classes) or rows) as count_done:
        arrays = [_ArrayFile(folder / name, spec, rows) for name, spec in specs.items()]
        for array in arrays:
            stack.callback(array.close)
        written = 0
        for number, block in enumerate(_blocks(source, split)):
            count = classes[number].size if classes else len(block[0])
            what = f"class {classes[number].name}" if classes else f"block {number}"
            for array, values in zip(arrays, block, strict=False):
                if values is None or not array.fits(values, count):
                    found = "no targets" if values is None else f"images {values.shape} {values.dtype}"
                    raise UserError(f"{source.name}: {what} gave {found}")
                array.write(values)
            written += count
            count_done(1 if classes else count)
        if written != rows:
            raise UserError(f"{source.name}: {split} has {written} rows instead of {rows}")
    return [array.digest.hexdigest() for array in arrays]


def _blocks(source: Source, split: str) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any] | None]]:
    """What a source reads; errors of whoever writes it are not taken for errors of reading."""
    with reading(source):
        yield from source.read(split)


class _ArrayFile:
    """An array that is written row by row, with a digest of its bytes."""

    def __init__(self, path: Path, spec: ArraySpec, rows: int) -> None:
        self._spec, self._file, self.digest = spec, path.open("wb"), hashlib.sha256()
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(spec.dtype)), "fortran_order": False}
        np.lib.format.write_array_header_1_0(self._file, {**header, "shape": (rows, *spec.shape)})

    def fits(self, rows: npt.NDArray[Any], count: int) -> bool:
        """Whether rows are as many as wanted, and as they should be."""
        return rows.shape == (count, *self._spec.shape) and rows.dtype == np.dtype(self._spec.dtype)

    def write(self, rows: npt.NDArray[Any]) -> None:
        data = rows.tobytes()
        self.digest.update(data)
        self._file.write(data)

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def _require_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"paths.cache_dir={folder.parent.parent} has {free / 2**20:.0f} MiB free, {needed / 2**20:.0f} MiB are needed; "
            "make room there or set paths.cache_dir=FOLDER"
        )


@contextmanager
def locked(path: Path, notify: Callable[[str], None]) -> Iterator[None]:
    """Holds a lock file; the operating system frees it when its process dies.

    Args:
        notify: takes a line where another process holds it.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        notify(f"Another process is preparing {path.with_suffix('')}; waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _sources_sha256(files: list[Path]) -> str:
    """One digest of all source files: of their names and their own digests."""
    lines = "\n".join(f"{path.name} {file_digest(path)}" for path in files)
    return hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest()  # a file may be called anything
