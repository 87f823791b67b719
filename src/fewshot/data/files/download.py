"""Downloads that are complete and checked, or not there at all."""

import hashlib
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from fewshot.errors import UserError

TIMEOUT = 30
"""Seconds without a byte."""
CHUNK = 2**20
"""Bytes read at a time."""
RANGE_NOT_SATISFIABLE = 416
"""HTTP's answer where a file has no more bytes than have arrived."""


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


def download(
    urls: str | Sequence[str],
    path: Path,
    md5: str | None,
    remedy: str,
    sha256: str | None = None,
    size: int | None = None,
) -> None:
    """Saves a file as `path`, whole and with the right size and digests, showing progress.

    What has arrived before an interruption stays beside it, hidden, and the next call goes on from there, where the server can
    and a size or digest will tell whether the whole is right.

    Args:
        urls: address, or mirrors, which are tried in this order.
        md5, sha256: hex digests that the publisher names.
        remedy: what the user can do where this fails.
        size: bytes that the publisher names.

    Raises:
        UserError: no network, an HTTP error, a wrong size or digest, or a folder that cannot be written.
    """
    failures: list[tuple[str, Exception]] = []
    part, before = path.with_name(f".{path.name}.part"), _changed(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")) as lock:
            arrived = _changed(path) != before  # by another process, which was waited for
            for url in [urls] if isinstance(urls, str) else urls:
                arrived = arrived or _arrives(url, part, {"md5": md5, "sha256": sha256}, size, failures)
            if arrived and part.is_file():
                part.replace(path)
            if part.is_file() and not (part.stat().st_size and (md5 or sha256 or size)):  # of no use to the next call
                part.unlink()
            Path(lock.lock_file).unlink(missing_ok=True)
    except OSError as error:
        arrived = False
        failures.append((str(path), error))
    if not arrived:
        tried = ", nor from ".join(f"{url} ({error})" for url, error in failures)
        raise UserError(f"{path.name} cannot be downloaded from {tried}; {remedy}") from failures[-1][1]


def _changed(path: Path) -> int | None:
    """When a file was last changed; None where there is none."""
    return path.stat().st_mtime_ns if path.is_file() else None


def _arrives(
    url: str, part: Path, digests: Mapping[str, str | None], size: int | None, failures: list[tuple[str, Exception]]
) -> bool:
    """Whether a mirror gives a file, whole and right; else why not is added to `failures`."""
    try:
        if size is None and not any(digests.values()):
            part.unlink(missing_ok=True)  # nothing would tell whether the whole is right
        _fetch(url, part)
        _verify(part, digests, size)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        _close(error)
        failures.append((url, error))
        return False
    return True


def _fetch(url: str, part: Path) -> None:
    """Saves a file, from where an earlier call was interrupted."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    begun = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={begun}-"} if begun else {})  # noqa: S310  callers name https
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code != RANGE_NOT_SATISFIABLE:
            raise
        error.close()
        part.unlink()
        _fetch(url, part)
        return
    with (
        response,
        Progress(TextColumn("Downloading {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()) as bar,
    ):
        if not str(response.headers.get("Content-Range", "")).startswith(f"bytes {begun}-"):
            begun = 0  # the server sends all of it
        length = response.headers.get("Content-Length")
        total = begun + int(length) if length is not None else None
        name = part.name.removeprefix(".").removesuffix(".part")
        task, arrived = bar.add_task(name, total=total or None, completed=begun), begun
        with part.open("ab" if begun else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                arrived += len(chunk)
                bar.advance(task, len(chunk))
    if total is not None and arrived != total:
        raise OSError(f"the connection ended after {arrived} of {total} bytes")


def _verify(part: Path, digests: Mapping[str, str | None], size: int | None) -> None:
    """Deletes and refuses what arrived otherwise than it is published."""
    found: dict[str, tuple[object, object]] = {"bytes": (part.stat().st_size, size)} if size is not None else {}
    found |= {kind: (_digest(part, kind), digest) for kind, digest in digests.items() if digest is not None}
    for what, (arrived, published) in found.items():
        if arrived != published:
            part.unlink()
            raise ValueError(f"it arrived with {what} {arrived} instead of {published}")


def _digest(path: Path, kind: str) -> str:
    digest = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _close(error: Exception) -> None:
    """An HTTP error is the server's answer, and its connection is open."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
