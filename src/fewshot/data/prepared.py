"""Prepared parts of a source: arrays that every run and process maps, found where they are whole and made of today's files."""

import hashlib
import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fewshot.data.source import ImageClass, Source, table_of
from fewshot.errors import UserError
from fewshot.files import written_whole
from fewshot.tasks.table import Table

log = logging.getLogger(__name__)

FORMAT = 2
"""Of the prepared folder; raised when its layout changes."""
UNKNOWN = "unknown"
"""The folder of originals, of arrays that were prepared before it was noted."""
CHUNK = 2**22
"""Bytes hashed at a time."""


TARGETS = "targets.npy"
ROW_DIGESTS = "row_digests.npy"
CHECKED = "checked.json"
"""Size and modification time of each array's file when its digest was last found right."""

_hashed: dict[Path, list[int]] = {}
"""Files whose digest this process has found right, with size and modification time."""
_logged: set[str] = set()
"""Lines about originals that cannot be read; each part of a dataset would repeat its own, and `find` runs several times."""


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
        if stamp_of(path) != self.stamps[name]:
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
        # Copied when written to, which nobody does: PyTorch takes no read-only array.
        return torch.from_numpy(np.load(path, mmap_mode="c").view(np.ndarray))
    except OSError as error:
        raise UserError(f"{path} cannot be opened ({error.strerror}); the same command prepares it anew and goes on") from error


def find(source: Source, split: str, cache_dir: Path, verify: str = "quick") -> PreparedSplit | None:
    """The prepared part, if it is there, whole, of this source with these options, and its files have not changed since.

    Originals that cannot be read, perhaps as they were deleted to save room, are done without, and a line is logged: but not
    those of another folder, which may be other data.

    Args:
        verify: ``quick`` hashes arrays whose file has another size or modification time than when it was last hashed;
            ``full`` hashes them in any case, once a process.
    """
    folder = folder_of(source, split, cache_dir)
    try:
        meta = _meta(folder)
        if any(meta[key] != value for key, value in identity(source).items()):
            return None
        digests = {inputs_file(source): meta["file_sha256"]}
        if source.y is not None:
            digests[TARGETS] = meta["targets_file_sha256"]
        stamps = {name: stamp_of(folder / name) for name in digests}
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
        of_sources, data_dir = meta["sources_stamp"], meta.get("data_dir", UNKNOWN)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    try:
        return prepared if sources_stamp(source.files(split)) == of_sources else None
    except (UserError, OSError) as error:
        if source.data_dir != data_dir and not (data_dir == UNKNOWN and _is_whole_dataset(source)):
            return None  # whoever prepares it anew raises the error
        _log_once(
            f"{source.name}: its files cannot be read ({error}); what was prepared from them on "
            f"{date.fromtimestamp(folder.stat().st_mtime)} is used"
        )
        return prepared


def _is_whole_dataset(source: Source) -> bool:
    """Whether a source refuses what is not all of a dataset: then its arrays are the same, whatever folder they are from."""
    return source.arguments.get("allow_partial") != "True" and "partial" not in source.name.split("-")


def _log_once(line: str) -> None:
    if line not in _logged:
        _logged.add(line)
        log.warning(line)


def identity(source: Source) -> dict[str, object]:
    """What prepared arrays must agree in with the source that is asked for."""
    return {"format": FORMAT, "version": source.version, "image_shape": list(source.x.shape), "options": source.options}


def folder_of(source: Source, split: str, cache_dir: Path) -> Path:
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
    if meta.pop("meta_sha256") != meta_digest(meta):
        raise ValueError(f"{folder} is damaged")
    return meta


def stamp_of(path: Path) -> list[int]:
    """Size and modification time of an array's file."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def is_whole(folder: Path, sha256: str, name: str, verify: str) -> bool:
    """Whether an array's file has the digest that it should have, hashed only where that is not known."""
    path = folder / name
    now = stamp_of(path)
    if _hashed.get(path) == now:
        return True
    try:
        checked = json.loads((folder / CHECKED).read_text("utf-8"))
    except (OSError, ValueError):
        checked = {}
    if verify != "full" and isinstance(checked, dict) and checked.get(name) == now:
        return True
    if file_digest(path) != sha256:
        return False
    _hashed[path] = now
    with suppress(OSError):  # a folder that is read only is hashed by each process
        (folder / CHECKED).write_text(json.dumps({**(checked if isinstance(checked, dict) else {}), name: now}), "utf-8")
    return True


def file_digest(path: Path) -> str:
    """The sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def meta_digest(meta: dict[str, object]) -> str:
    """The sha256 of the content of ``meta.json``: a class list with a flipped bit would be believed otherwise."""
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def sources_stamp(files: list[Path]) -> str:
    """Changes when a source file is replaced: a digest of names, sizes and modification times."""
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(stats).encode()).hexdigest()
