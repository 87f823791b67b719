"""Reading archives that nobody vouches for: members are read by name, never extracted, and stay data."""

import bz2
import gzip
import io
import logging
import lzma
import os
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from fewshot.errors import UserError

log = logging.getLogger(__name__)

LARGEST_MEMBER = 16 * 2**20
"""Bytes; no image of a few-shot dataset comes near, a zip bomb does not stop before."""
LARGEST_LISTING = 2**30
"""The same of a text that lists images; MSCOCO's has half of it."""
LARGEST_RATIO, SUSPECT = 100, 64 * 2**20
"""How many times its compressed bytes a member of so many bytes may have: a bomb has a thousand times, pixels a few."""
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
COMPRESSIONS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
"""By the first bytes of a file."""


def open_zip(path: Path) -> zipfile.ZipFile:
    """A zip archive, opened once a process unless it is replaced.

    Raises:
        UserError: it is no zip, or truncated.
    """
    try:
        return _opened_zip(path, *_stamp(path))
    except Exception as error:  # a broken table of contents raises whatever it likes
        raise UserError(f"{path} is not a whole zip archive ({error}); download it again") from error


def members(path: Path) -> dict[str, tuple[int, int]]:
    """An archive's files in its own order, each once: name -> checksum (of a tar: place) and size, which tell contents apart.

    Raises:
        UserError: it is no archive, or a zip that holds a name twice with different content.
    """
    if _is_tar(path):
        return dict(_open_tar(path).members)
    found: dict[str, tuple[int, int]] = {}
    for entry in open_zip(path).infolist():
        content = (entry.CRC, entry.file_size)
        if found.setdefault(entry.filename, content) != content:
            raise UserError(f"{path} holds {entry.filename} twice, with different content; pack it anew with one of them")
    return {name: content for name, content in found.items() if not name.endswith("/")}


def read_member(path: Path, name: str, largest: int = LARGEST_MEMBER) -> bytes:
    """A member's bytes.

    Args:
        path: of the archive.
        name: of the member.
        largest: bytes that it may have.

    Raises:
        UserError: the archive is corrupt there, or the member is larger than that.
    """
    try:
        size = _open_tar(path).members[name][1] if _is_tar(path) else open_zip(path).getinfo(name).file_size
    except KeyError as error:
        raise UserError(f"{path} has no member {name}; download the archive again") from error
    if size > largest:
        what = "image" if largest == LARGEST_MEMBER else "listing"
        raise UserError(f"{path}: member {name} has {size} bytes, more than any {what} here; download the archive again")
    with open_member(path, name) as member:
        try:
            return member.read(largest + 1)  # a header may lie: `read()` would unpack everything first
        except Exception as error:  # what the table of contents says of a member is believed until it makes no sense
            raise UserError(f"{path}: member {name} is corrupt ({error}); download the archive again") from error


def open_member(path: Path, name: str) -> IO[bytes]:
    """A member of any size, to be read.

    Raises:
        UserError: the archive is corrupt there, or the member would unpack to far more than data do.
    """
    try:
        if _is_tar(path):
            return _open_tar(path).open(name)
        entry = open_zip(path).getinfo(name)
        refuse_bomb(entry.file_size, min(entry.compress_size, path.stat().st_size))
        return open_zip(path).open(name)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}: member {name} is corrupt ({error}); download the archive again") from error


def refuse_bomb(size: int, compressed: int) -> None:
    """Raises a ValueError where a few bytes unpack to more than data do."""
    if size > SUSPECT and size > LARGEST_RATIO * max(1, compressed):
        raise ValueError(f"{compressed} bytes unpack to {size} and more, which are no data")


@lru_cache(maxsize=16)
def _opened_zip(path: Path, *_stamp: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


class _Tar:
    """The files in a tar archive: name -> place and size; links, devices and folders are none.

    A compressed one is unpacked into a nameless temporary file, as it could else be read from front to back alone.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.number = os.dup(file.fileno())  # open as long as anybody reads
        self.members: dict[str, tuple[int, int]] = {}
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for entry in archive:
                if entry.isreg() and not entry.issparse():
                    self.members[entry.name.removeprefix("./")] = (entry.offset_data, entry.size)  # the last of a name holds

    def open(self, name: str) -> io.BufferedReader:
        place, size = self.members[name]
        if (found := os.fstat(self.number).st_size - place) < size:
            raise ValueError(f"it ends after {found} of {size} bytes")
        return io.BufferedReader(_Slice(self, place, size))

    def __del__(self) -> None:
        os.close(self.number)


class _Slice(io.RawIOBase):
    """A part of a file, which several threads may read at once."""

    def __init__(self, archive: _Tar, start: int, size: int) -> None:
        self._archive, self._start, self._size, self._at = archive, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = os.pread(self._archive.number, max(0, min(len(buffer), self._size - self._at)), self._start + self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _open_tar(path: Path) -> _Tar:
    """A tar archive, opened once a process unless it is replaced.

    Raises:
        UserError: it is no tar, or truncated, or there is no room to unpack it.
    """
    try:
        return _opened_tar(path, *_stamp(path))
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path} is not a whole tar archive ({error}); download it again") from error


@lru_cache(maxsize=4)
def _opened_tar(path: Path, *_stamp: int) -> _Tar:
    with _unpacked(path) as file:
        return _Tar(file)


def _unpacked(path: Path) -> IO[bytes]:
    """The tar archive itself; of a compressed one, what is in it."""
    file = path.open("rb")
    start = file.read(8)
    file.seek(0)
    decompress = next((function for magic, function in COMPRESSIONS.items() if start.startswith(magic)), None)
    if decompress is None:
        return file
    total, compressed = 0, path.stat().st_size
    if compressed > SUSPECT:
        log.info(f"{path.name} is unpacked at each start; unpack it there to start faster")
    with file, decompress(file) as stream:
        with _room_for(path):
            unpacked = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  open as long as the archive
        try:
            while chunk := stream.read(2**20):
                total += len(chunk)
                refuse_bomb(total, compressed)
                with _room_for(path):
                    _write(unpacked, chunk)
            unpacked.seek(0)
        except BaseException:
            unpacked.close()
            raise
    return unpacked


def _write(file: IO[bytes], data: bytes) -> None:
    """Writes all of it, as a file without a buffer need not at once; one with a buffer tries again when it is closed."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


@contextmanager
def _room_for(path: Path) -> Iterator[None]:
    """Turns the operating system's refusal of a temporary file into one that names its folder."""
    try:
        yield
    except OSError as error:
        folder = os.environ.get("TMPDIR", "") or "the folder of temporary files"
        with suppress(OSError):  # where there is none
            folder = tempfile.gettempdir()
        raise UserError(
            f"{path} cannot be unpacked into {folder} ({error.strerror}); set TMPDIR to a folder with room, or unpack it"
        ) from error


def _is_tar(path: Path) -> bool:
    return path.name.lower().endswith(TAR_SUFFIXES)


def _stamp(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
