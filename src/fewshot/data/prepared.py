"""Prepared splits: images decoded once into one uint8 file, sorted by class, memory-mapped by every later run and process."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from fewshot.data.source import ImageClass, ImageSource, reading
from fewshot.errors import UserError

FORMAT = 2
"""Of the prepared folder; raised when its layout changes."""
CHUNK = 2**22
"""Bytes hashed at a time."""


@dataclass(frozen=True)
class PreparedSplit:
    """One split of a data set, ready to be gathered from. Pickles as its folder, so that workers map the same file.

    Attributes:
        folder: holds ``images.npy`` and ``meta.json``.
        classes: sorted by name.
        images_sha256: of the images' bytes.
        sources_sha256: of the files that they were made from.
        contents: digest of each class's images, whatever their order.
    """

    folder: Path
    classes: tuple[ImageClass, ...]
    images_sha256: str
    sources_sha256: str
    contents: tuple[str, ...]

    @cached_property
    def images(self) -> npt.NDArray[np.uint8]:
        """``(images, C, H, W)`` uint8, memory-mapped; a class's images are neighbours.

        Raises:
            UserError: the file has gone since it was found.
        """
        path = self.folder / "images.npy"
        try:
            # As a plain array: a gather from NumPy's own class of mapped ones takes twice as long.
            images: npt.NDArray[np.uint8] = np.load(path, mmap_mode="r").view(np.ndarray)
        except OSError as error:
            raise UserError(
                f"{path} cannot be opened ({error.strerror}); the same command prepares it anew and goes on"
            ) from error
        return images

    @cached_property
    def sizes(self) -> npt.NDArray[np.int64]:
        """``(classes,)`` images in each class."""
        return np.array([c.size for c in self.classes], dtype=np.int64)

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """``(classes,)`` each class's first row."""
        return np.cumsum(self.sizes) - self.sizes

    def __getstate__(self) -> dict[str, object]:
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}


def classes_sha256(classes: tuple[ImageClass, ...]) -> str:
    """A digest of the names of a split's classes."""
    return hashlib.sha256("\n".join(c.name for c in classes).encode()).hexdigest()


def prepare(source: ImageSource, split: str, cache_dir: Path, say: Callable[[str], None]) -> PreparedSplit:
    """Makes a split's prepared files unless they are there, whole, and made from the same sources by the same code.

    Processes that ask for the same split meanwhile wait. Files appear whole or not at all: what a killed process left is
    swept away by the next.

    Args:
        say: told what takes time.

    Raises:
        UserError: sources are missing or corrupt, or `cache_dir` cannot be written or is full.
    """
    folder = cache_dir / source.name / split
    found = find(source, split, cache_dir)
    if found is not None:
        return found
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.parent / f"{split}.lock", say):
            found = find(source, split, cache_dir)  # another process may have made it meanwhile
            return found if found is not None else _make(source, split, folder)
    except OSError as error:
        raise UserError(
            f"paths.cache_dir={cache_dir} cannot be written ({error.strerror or error}); "
            "make room there or set paths.cache_dir=FOLDER"
        ) from error


def find(source: ImageSource, split: str, cache_dir: Path) -> PreparedSplit | None:
    """The prepared split, if it is there, whole, of this source with these options, and its files have not changed since."""
    folder = cache_dir / source.name / split
    try:
        meta = json.loads((folder / "meta.json").read_text("utf-8"))
        if meta.pop("meta_sha256") != _meta_sha256(meta):
            return None
        if any(meta[key] != value for key, value in _identity(source).items()):
            return None
        if _sha256(folder / "images.npy") != meta["file_sha256"]:
            return None
        prepared = PreparedSplit(
            folder,
            tuple(ImageClass(*entry) for entry in meta["classes"]),
            meta["images_sha256"],
            meta["sources_sha256"],
            tuple(meta["contents"]),
        )
        stamps = meta["sources_stamp"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    try:
        return prepared if _stamp(source.files(split)) == stamps else None
    except (UserError, OSError):
        return prepared  # the sources are gone or incomplete; what was made from them remains true


def _identity(source: ImageSource) -> dict[str, object]:
    """What prepared images must agree in with the source that is asked for."""
    shape = list(source.image_shape)
    return {"format": FORMAT, "version": source.version, "image_shape": shape, "options": source.options}


def _images(source: ImageSource, split: str) -> Iterator[npt.NDArray[np.uint8]]:
    with reading(source):
        yield from source.images(split)


def _make(source: ImageSource, split: str, folder: Path) -> PreparedSplit:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with reading(source):
        classes, files = tuple(source.classes(split)), source.files(split)
    rows = sum(c.size for c in classes)
    shape = (rows, *source.image_shape)
    for remains in folder.parent.glob(f"{split}.part-*"):
        shutil.rmtree(remains, ignore_errors=True)
    part = folder.parent / f"{split}.part-{os.getpid()}"
    part.mkdir()
    try:
        _require_room(part, int(np.prod(shape)))
        digest, contents = hashlib.sha256(), []
        with (
            (part / "images.npy").open("wb") as file,
            Progress(
                TextColumn("Preparing {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
            ) as bar,
        ):
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            task = bar.add_task(f"{source.name} {split}, classes", total=len(classes))
            for wanted, images in zip(classes, _images(source, split), strict=True):
                if images.shape != (wanted.size, *source.image_shape) or images.dtype != np.uint8:
                    raise UserError(f"{source.name}: class {wanted.name} gave images {images.shape} {images.dtype}")
                data = images.tobytes()
                digest.update(data)
                each = sorted(hashlib.sha256(image).digest() for image in np.ascontiguousarray(images))
                contents.append(hashlib.sha256(b"".join(each)).hexdigest())
                file.write(data)
                bar.advance(task)
            file.flush()
            os.fsync(file.fileno())
        with reading(source):
            sources_sha256, stamp = _sources_sha256(files), _stamp(files)
        meta = {
            **_identity(source),
            "name": source.name,
            "split": split,
            "images_sha256": digest.hexdigest(),
            "file_sha256": _sha256(part / "images.npy"),
            "sources_sha256": sources_sha256,
            "sources_stamp": stamp,
            "classes": [list(asdict(c).values()) for c in classes],
            "contents": contents,
        }
        (part / "meta.json").write_text(json.dumps(meta | {"meta_sha256": _meta_sha256(meta)}, indent=1), "utf-8")
        if folder.exists():  # outdated or corrupt; processes that mapped it keep their mapping
            shutil.rmtree(folder)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return PreparedSplit(folder, classes, digest.hexdigest(), sources_sha256, tuple(contents))


def _require_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"paths.cache_dir={folder.parent.parent} has {free / 2**20:.0f} MiB free, {needed / 2**20:.0f} MiB are needed; "
            "make room there or set paths.cache_dir=FOLDER"
        )


@contextmanager
def _locked(path: Path, say: Callable[[str], None]) -> Iterator[None]:
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
