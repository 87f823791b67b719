"""Prepared parts of a source: rows decoded once into one file, memory-mapped by every later run and process."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from fewshot.data.source import ArraySpec, ImageClass, Source, reading, table_of
from fewshot.errors import UserError
from fewshot.files import written_whole
from fewshot.tasks.table import Table

FORMAT = 2
"""Of the prepared folder; raised when its layout changes."""
CHUNK = 2**22
"""Bytes hashed at a time."""


TARGETS = "targets.npy"
ROW_DIGESTS = "row_digests.npy"
CHECKED = "checked.json"
"""Size and modification time of each array's file when its digest was last found right."""

_hashed: dict[Path, list[int]] = {}
"""Files whose digest this process has found right, with size and modification time."""


@dataclass(frozen=True)
class PreparedSplit:
    """One part of a source, ready to be gathered from. Pickles as its folder, so that workers map the same file.

    Attributes:
        source: that it was made from.
        folder: holds the arrays and ``meta.json``.
        classes: sorted by name.
        columns: further ones, the names of each row.
        images_sha256: of the bytes of the arrays.
        sources_sha256: of the files that they were made from.
        stamps: size and modification time of each array's file.
    """

    source: Source = field(compare=False)
    folder: Path
    classes: tuple[ImageClass, ...]
    columns: dict[str, list[str]]
    images_sha256: str
    sources_sha256: str
    stamps: dict[str, list[int]] = field(compare=False)

    @cached_property
    def x(self) -> Tensor:
        """Inputs ``(rows, ...)``, memory-mapped; a class's rows are neighbours.

        Raises:
            UserError: the file has gone since it was found, or is another one.
        """
        return self._mapped(inputs_file(self.source))

    @cached_property
    def y(self) -> Tensor | None:
        """Targets ``(rows, ...)``, memory-mapped; None where classes are the targets."""
        return None if self.source.y is None else self._mapped(TARGETS)

    def _mapped(self, name: str) -> Tensor:
        """An array; a run tests hours after its data were found, and others may have made them anew meanwhile."""
        path = self.folder / name
        array = mapped(path)
        if _stamp_of(path) != self.stamps[name]:
            raise UserError(f"{path} was made anew, of other files, while this run went on; the same command goes on with it")
        return array

    @cached_property
    def row_digests(self) -> npt.NDArray[np.uint64]:
        """A digest of each row's inputs ``(rows,)``, taken once and kept beside the arrays."""
        path = self.folder / ROW_DIGESTS
        with suppress(OSError, ValueError):
            kept: npt.NDArray[np.uint64] = np.load(path, allow_pickle=False)
            if kept.shape == (len(self.table),) and kept.dtype == np.uint64:
                return kept
        inputs = self._mapped(inputs_file(self.source)).numpy()  # `x` is mapped by whoever gathers rows
        taken = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in inputs)
        digests = np.frombuffer(b"".join(taken), np.uint64)
        with suppress(OSError), written_whole(path) as file:  # a folder that is read only is hashed by each process
            np.save(file, digests)
        return digests

    @cached_property
    def table(self) -> Table:
        """What is known of the rows."""
        return table_of(self.source, self.classes, self.columns)

    def __getstate__(self) -> dict[str, object]:
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}


def classes_sha256(names: Sequence[str]) -> str:
    """A digest of the names of a part's classes."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def inputs_file(source: Source) -> str:
    """The name of the file with a source's inputs."""
    return "images.npy" if len(source.x.shape) == 3 and source.x.dtype == "uint8" else "inputs.npy"


def mapped(path: Path) -> Tensor:
    """An array's file, memory-mapped.

    Raises:
        UserError: it has gone since it was found.
    """
    try:
        # Copied when written to, which nobody does: PyTorch takes no array that cannot be written to.
        return torch.from_numpy(np.load(path, mmap_mode="c").view(np.ndarray))
    except OSError as error:
        raise UserError(f"{path} cannot be opened ({error.strerror}); the same command prepares it anew and goes on") from error


def prepare(source: Source, split: str, cache_dir: Path, say: Callable[[str], None], verify: str = "quick") -> PreparedSplit:
    """Makes a split's prepared files unless they are there, whole, and made from the same sources by the same code.

    Processes that ask for the same split meanwhile wait. Files appear whole or not at all: what a killed process left is
    swept away by the next.

    Args:
        say: told what takes time.
        verify: how files are held against their digests (`find`).

    Raises:
        UserError: sources are missing or corrupt, or `cache_dir` cannot be written or is full.
    """
    found = find(source, split, cache_dir, verify)
    if found is not None:
        return found
    try:
        (cache_dir / source.name).mkdir(parents=True, exist_ok=True)
        with locked(cache_dir / source.name / f"{split}.lock", say):
            found = find(source, split, cache_dir, verify)  # another process may have made it meanwhile
            return found if found is not None else _make(source, split, _folder(source, split, cache_dir))
    except OSError as error:
        raise UserError(
            f"paths.cache_dir={cache_dir} cannot be written ({error.strerror or error}); "
            "make room there or set paths.cache_dir=FOLDER"
        ) from error


def find(source: Source, split: str, cache_dir: Path, verify: str = "quick") -> PreparedSplit | None:
    """The prepared part, if it is there, whole, of this source with these options, and its files have not changed since.

    Args:
        verify: ``quick`` hashes arrays whose file has another size or modification time than when it was last hashed;
            ``full`` hashes them in any case, once a process.
    """
    folder = _folder(source, split, cache_dir)
    try:
        meta = _meta(folder)
        if any(meta[key] != value for key, value in _identity(source).items()):
            return None
        digests = {inputs_file(source): meta["file_sha256"]}
        if source.y is not None:
            digests[TARGETS] = meta["targets_file_sha256"]
        stamps = {name: _stamp_of(folder / name) for name in digests}
        if not all(is_whole(folder, digest, name, verify) for name, digest in digests.items()):
            return None
        prepared = PreparedSplit(
            source,
            folder,
            tuple(ImageClass(*entry) for entry in meta["classes"]),
            meta.get("columns", {}),
            meta["images_sha256"],
            meta["sources_sha256"],
            stamps,
        )
        of_sources = meta["sources_stamp"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    try:
        return prepared if _stamp(source.files(split)) == of_sources else None
    except (UserError, OSError):
        return prepared  # the sources are gone or incomplete; what was made from them remains true


def _identity(source: Source) -> dict[str, object]:
    """What prepared images must agree in with the source that is asked for."""
    return {"format": FORMAT, "version": source.version, "image_shape": list(source.x.shape), "options": source.options}


def _folder(source: Source, split: str, cache_dir: Path) -> Path:
    """Where a part is kept: one folder for each choice of options, as runs with others may be reading theirs."""
    usual, code = cache_dir / source.name / split, (FORMAT, source.version, source.options.keys())
    mine = {"image_shape": list(source.x.shape), **source.arguments}
    try:
        meta = _meta(usual)
        theirs = {"image_shape": meta["image_shape"], **meta["options"]}
        outdated = code != (meta["format"], meta["version"], meta["options"].keys())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return usual  # nobody's, or damaged
    if outdated or all(theirs[name] == value for name, value in mine.items()):
        return usual
    return usual.with_name(f"{split}-{hashlib.sha256(json.dumps(mine, sort_keys=True).encode()).hexdigest()[:8]}")


def _meta(folder: Path) -> dict[str, Any]:
    """What is known of prepared arrays.

    Raises:
        ValueError: it is not what was written.
    """
    meta: dict[str, Any] = json.loads((folder / "meta.json").read_text("utf-8"))
    if meta.pop("meta_sha256") != _meta_sha256(meta):
        raise ValueError(f"{folder} is damaged")
    return meta


def _stamp_of(path: Path) -> list[int]:
    """Size and modification time of an array's file."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def is_whole(folder: Path, sha256: str, name: str, verify: str) -> bool:
    """Whether an array's file has the digest that it should have, hashed only where that is not known."""
    path = folder / name
    now = _stamp_of(path)
    if _hashed.get(path) == now:
        return True
    try:
        checked = json.loads((folder / CHECKED).read_text("utf-8"))
    except (OSError, ValueError):
        checked = {}
    if verify != "full" and isinstance(checked, dict) and checked.get(name) == now:
        return True
    if _sha256(path) != sha256:
        return False
    _hashed[path] = now
    with suppress(OSError):  # a folder that is read only is hashed by each process
        (folder / CHECKED).write_text(json.dumps({**(checked if isinstance(checked, dict) else {}), name: now}), "utf-8")
    return True


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


def _blocks(source: Source, split: str) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any] | None]]:
    with reading(source):
        yield from source.read(split)


def _make(source: Source, split: str, folder: Path) -> PreparedSplit:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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
        with (
            ExitStack() as stack,
            Progress(
                TextColumn("Preparing {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
            ) as bar,
        ):
            arrays = [_ArrayFile(part / name, spec, rows) for name, spec in specs.items()]
            for array in arrays:
                stack.callback(array.close)
            task = bar.add_task(f"{source.name} {split}, {'classes' if classes else 'rows'}", total=len(classes) or rows)
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
                bar.advance(task, 1 if classes else count)
            if written != rows:
                raise UserError(f"{source.name}: {split} has {written} rows instead of {rows}")
        with reading(source):
            sources_sha256, stamp = _sources_sha256(files), _stamp(files)
        digests = [array.digest.hexdigest() for array in arrays]
        images_sha256 = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
        meta = {
            **_identity(source),
            "name": source.name,
            "split": split,
            "images_sha256": images_sha256,
            "file_sha256": _sha256(part / inputs_file(source)),
            "sources_sha256": sources_sha256,
            "sources_stamp": stamp,
            "classes": [list(asdict(c).values()) for c in classes],
        }
        if source.y is not None:
            meta["targets_file_sha256"] = _sha256(part / TARGETS)
        if columns:
            meta["columns"] = columns
        stamps = {name: _stamp_of(part / name) for name in specs}
        (part / CHECKED).write_text(json.dumps(stamps), "utf-8")
        (part / "meta.json").write_text(json.dumps(meta | {"meta_sha256": _meta_sha256(meta)}, indent=1), "utf-8")
        if folder.exists():  # outdated or corrupt; processes that mapped it keep their mapping
            shutil.rmtree(folder)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return PreparedSplit(source, folder, classes, columns, images_sha256, sources_sha256, stamps)


def _require_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"paths.cache_dir={folder.parent.parent} has {free / 2**20:.0f} MiB free, {needed / 2**20:.0f} MiB are needed; "
            "make room there or set paths.cache_dir=FOLDER"
        )


@contextmanager
def locked(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Holds a lock file; the operating system frees it when its process dies."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"Another process is preparing {path.with_suffix('')}; waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _meta_sha256(meta: dict[str, object]) -> str:
    """Of what ``meta.json`` says: a class list with a flipped bit would be believed otherwise."""
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _sources_sha256(files: list[Path]) -> str:
    """One digest of all source files: of their names and their own digests."""
    return hashlib.sha256("\n".join(f"{path.name} {_sha256(path)}" for path in files).encode()).hexdigest()


def _stamp(files: list[Path]) -> str:
    """Changes when a source file is replaced: a digest of names, sizes and modification times."""
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(stats).encode()).hexdigest()
