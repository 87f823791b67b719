"""Reading archives that nobody vouches for: members are read by name, never extracted, and stay data."""

import zipfile
from functools import lru_cache
from pathlib import Path

from fewshot.errors import UserError

LARGEST_MEMBER = 16 * 2**20
"""Bytes; no image of a few-shot data set comes near, a zip bomb does not stop before."""


def open_zip(path: Path) -> zipfile.ZipFile:
    """A zip archive, opened once a process unless it is replaced.

    Raises:
        UserError: it is no zip, or truncated.
    """
    try:
        stat = path.stat()
        return _opened(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    except Exception as error:  # a broken table of contents raises whatever it likes
        raise UserError(f"{path} is not a whole zip archive ({error}); download it again") from error


@lru_cache(maxsize=16)
def _opened(path: Path, *_stamp: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def members(path: Path) -> dict[str, tuple[int, int]]:
    """An archive's files in its own order, each once: name -> checksum and size, which tell contents apart.

    Raises:
        UserError: it is no zip, or holds a name twice with different content.
    """
    found: dict[str, tuple[int, int]] = {}
    for entry in open_zip(path).infolist():
        content = (entry.CRC, entry.file_size)
        if found.setdefault(entry.filename, content) != content:
            raise UserError(f"{path} holds {entry.filename} twice, with different content; pack it anew with one of them")
    return {name: content for name, content in found.items() if not name.endswith("/")}


def read_member(path: Path, name: str) -> bytes:
    """A member's bytes.

    Raises:
        UserError: the archive is corrupt there, or the member is larger than any image.
    """
    archive = open_zip(path)
    try:
        size, content = archive.getinfo(name).file_size, b""
        if size <= LARGEST_MEMBER:
            with archive.open(name) as member:
                content = member.read(LARGEST_MEMBER + 1)  # a header may lie: `read()` would unpack everything first
    except Exception as error:  # what the table of contents says of a member is believed until it makes no sense
        raise UserError(f"{path}: member {name} is corrupt ({error}); download the archive again") from error
    if size > LARGEST_MEMBER:
        raise UserError(f"{path}: member {name} has {size} bytes, more than any image here; download the archive again")
    return content
