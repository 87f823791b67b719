"""Downloads that are complete and checked, or not there at all."""

import hashlib
import http.client
import json
import os
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from fewshot.errors import UserError

TIMEOUT = 30
"""Seconds without a byte."""
CHUNK = 2**20
"""Bytes read at a time."""


def fetch_json(url: str, remedy: str) -> Any:
    """A JSON document.

    Raises:
        UserError: no network, an HTTP error, or no JSON.
    """
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:  # noqa: S310  callers name https addresses
            return json.load(response)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        _close(error)
        raise UserError(f"{url} cannot be read ({error}); {remedy}") from error


def download(url: str, path: Path, md5: str, remedy: str) -> None:
    """Saves `url` as `path`, whole and with the right checksum, showing progress.

    Args:
        md5: hex digest that the publisher names.
        remedy: what the user can do where this fails.

    Raises:
        UserError: no network, an HTTP error, a wrong checksum, or a folder that cannot be written.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    part = path.with_name(f"{path.name}.part-{os.getpid()}")
    digest = hashlib.md5(usedforsecurity=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            part.open("wb") as file,
            urllib.request.urlopen(url, timeout=TIMEOUT) as response,  # noqa: S310  callers name https addresses
            Progress(TextColumn("Downloading {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()) as bar,
        ):
            task = bar.add_task(path.name, total=int(response.headers.get("Content-Length", 0)) or None)
            while chunk := response.read(CHUNK):
                file.write(chunk)
                digest.update(chunk)
                bar.advance(task, len(chunk))
        if digest.hexdigest() != md5:
            raise UserError(f"{url} arrived with checksum {digest.hexdigest()} instead of {md5}; try again, or {remedy}")
        part.replace(path)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        _close(error)
        raise UserError(f"{path.name} cannot be downloaded from {url} ({error}); {remedy}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _close(error: Exception) -> None:
    """An HTTP error is the server's answer, and its connection is open."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
