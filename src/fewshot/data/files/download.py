"""Downloads that are complete and checked, or not there at all."""

import hashlib
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
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
    and a size or digest will tell whether the whole is right. A server that sends something else does not take it away.

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
    published = _Published(size, {kind: digest for kind, digest in (("md5", md5), ("sha256", sha256)) if digest})
    try:
        with _folder(path.parent), FileLock(path.with_name(f".{path.name}.lock")) as lock:
            arrived = _changed(path) != before  # by another process, which was waited for
            for url in [urls] if isinstance(urls, str) else urls:
                arrived = arrived or _arrives(url, part, published, failures)
            if arrived and part.is_file():
                part.replace(path)
            if part.is_file() and not (part.stat().st_size and published):  # of no use to the next call
                part.unlink()
            Path(lock.lock_file).unlink(missing_ok=True)
    except OSError as error:
        arrived = False
        failures.append((str(path), error))
    if not arrived:
        tried = ", nor from ".join(f"{url} ({error})" for url, error in failures)
        raise UserError(f"{path.name} cannot be downloaded from {tried}; {remedy}") from failures[-1][1]


@dataclass(frozen=True)
class _Published:
    """What is published of a file: its bytes, and digests by their kind; false where nothing is."""

    size: int | None
    digests: Mapping[str, str]

    def __bool__(self) -> bool:
        return self.size is not None or bool(self.digests)

    def misfit(self, path: Path) -> str:
        """How a file differs from what is published; nothing where it does not."""
        size = path.stat().st_size
        if self.size not in (None, size):
            return f"it arrived with {size} bytes instead of {self.size}"
        for kind, digest in self.digests.items():
            if (arrived := _digest(path, kind)) != digest:
                return f"it arrived with {kind} {arrived} instead of {digest}"
        return ""


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Makes a folder, with those above it, and takes away again what was made and stays empty: it would hide the data."""
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        with suppress(OSError):  # not empty, or never made
            for one in made:
                one.rmdir()


def _changed(path: Path) -> int | None:
    """When a file was last changed; None where there is none."""
    return path.stat().st_mtime_ns if path.is_file() else None


def _arrives(url: str, part: Path, published: _Published, failures: list[tuple[str, Exception]]) -> bool:
    """Whether a mirror gives a file, whole and right, as `part`; else why not is added to `failures`."""
    anew = part.with_name(f"{part.name}-anew")
    try:
        if not published:
            part.unlink(missing_ok=True)  # nothing would tell whether the whole is right
        _keep_longer(part, anew)  # left by a kill
        arrived = _fetch(url, part, anew, published)
        _refuse_misfit(arrived, published)
        arrived.replace(part)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        _close(error)
        _keep_longer(part, anew)
        failures.append((url, error))
        return False
    return True


def _refuse_misfit(arrived: Path, published: _Published) -> None:
    """Deletes and refuses what arrived otherwise than it is published."""
    if misfit := published.misfit(arrived):
        arrived.unlink()
        raise ValueError(misfit)


def _keep_longer(part: Path, anew: Path) -> None:
    """Of what has arrived of a file twice, keeps the longer as `part`."""
    if anew.is_file():
        if part.is_file() and part.stat().st_size >= anew.stat().st_size:
            anew.unlink()
        else:
            anew.replace(part)


def _fetch(url: str, part: Path, anew: Path, published: _Published) -> Path:
    """Saves a file, from where an earlier call was interrupted, as `part`; as `anew` where the server sends all of it again."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    begun = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={begun}-"} if begun else {})  # noqa: S310  callers name https
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code != RANGE_NOT_SATISFIABLE or not begun:
            raise
        error.close()
        if not published.misfit(part):
            return part
        part.unlink()
        return _fetch(url, part, anew, published)
    with (
        response,
        Progress(TextColumn("Downloading {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()) as bar,
    ):
        target = part
        if begun and not str(response.headers.get("Content-Range", "")).startswith(f"bytes {begun}-"):
            target, begun = anew, 0  # the server sends all of it
        length = response.headers.get("Content-Length")
        total = begun + int(length) if length is not None else None
        if published.size is not None and total not in (None, published.size):
            raise ValueError(f"it has {total} bytes there instead of {published.size}")
        name = part.name.removeprefix(".").removesuffix(".part")
        task, arrived = bar.add_task(name, total=total or None, completed=begun), begun
        with target.open("ab" if begun else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                arrived += len(chunk)
                bar.advance(task, len(chunk))
    if total is not None and arrived != total:
        raise OSError(f"the connection ended after {arrived} of {total} bytes")
    return target


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
