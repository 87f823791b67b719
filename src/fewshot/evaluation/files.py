"""Files that appear whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Opens a file beside `path` for writing; once written without an error, it is synced and takes the place of `path`."""
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def keep_as(path: Path, other: Path) -> None:
    """Gives a file a second name, in the place of whatever had it; a copy where the file system knows no links."""
    part = other.with_name(f".{other.name}.part-{os.getpid()}")
    part.unlink(missing_ok=True)
    try:
        part.hardlink_to(path)
    except OSError:
        shutil.copy(path, part)
    part.replace(other)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file whole."""
    with written_whole(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())
