"""Files that appear whole or not at all."""

import json
import math
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
        file.write((json_text(content) + "\n").encode())


def json_text(content: dict[str, Any]) -> str:
    """Content as JSON; what is not a finite number becomes null, for JSON knows no NaN."""
    return json.dumps(_numbers_only(content), indent=2, allow_nan=False)


def _numbers_only(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _numbers_only(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_numbers_only(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node
