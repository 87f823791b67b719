"""Where the files of a dataset are: in folders, or in archives there, which are not unpacked."""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from fewshot.data.files.archives import LARGEST_MEMBER, members, open_member, read_member
from fewshot.data.source import require
from fewshot.errors import UserError


@dataclass(frozen=True)
class Place:
    """Where a file lies.

    Attributes:
        path: of the file, or of the archive that holds it.
        member: its name in the archive; None of a file.
        content: checksum and size of a member.
    """

    path: Path
    member: str | None = None
    content: tuple[int, int] | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.member}" if self.member else str(self.path)

    @property
    def name(self) -> PurePosixPath:
        """Of the file, with the folders above it."""
        return PurePosixPath(self.member or self.path.as_posix())

    @property
    def folder(self) -> str:
        """The name of the folder that it is in."""
        return self.name.parent.name

    def beside(self, name: str) -> "Place":
        """A file of that name in the same folder."""
        other = self.name.with_name(name)
        return Place(self.path, other.as_posix()) if self.member else Place(Path(other))

    def read(self, largest: int = LARGEST_MEMBER) -> bytes:
        """The file's bytes.

        Args:
            largest: how many a member of an archive may have.

        Raises:
            UserError: they cannot be read.
        """
        try:
            return read_member(self.path, self.member, largest) if self.member else self.path.read_bytes()
        except OSError as error:
            raise UserError(f"{self.path} cannot be read ({error.strerror}); replace the file") from error

    def open(self) -> IO[bytes]:
        """The file, of whatever size, to be read.

        Raises:
            UserError: it cannot be.
        """
        try:
            return open_member(self.path, self.member) if self.member else self.path.open("rb")
        except OSError as error:
            raise UserError(f"{self} cannot be read ({error.strerror}); put it there") from error


def all_places(
    folder: Path, tars: Collection[str] = (), skip: Collection[str] = (), broken: list[UserError] | None = None
) -> list[Place]:
    """All files below a folder, and then those in the archives there; hidden ones are none.

    Args:
        tars: names of the tar archives that are opened; zip archives all are.
        skip: names of folders in this one that are left out.
        broken: where given, what is wrong with a zip archive is added here, and the archive is left out.

    Raises:
        UserError: the folder is missing, or an archive is broken.
    """
    return list(_places(require(folder), tars, skip, broken))


def by_folder_and_name(places: Collection[Place]) -> dict[str, Place]:
    """Places by the last two parts of their names, ``folder/file``; the first of each, as a file is before a member."""
    found: dict[str, Place] = {}
    for place in places:
        found.setdefault(f"{place.folder}/{place.name.name}", place)
    return found


def _places(folder: Path, tars: Collection[str], skip: Collection[str], broken: list[UserError] | None) -> Iterator[Place]:
    archives: list[Path] = []
    for parent, folders, names in walked(folder):
        if parent == folder:
            folders[:] = [name for name in folders if name not in skip]
        for name in names:
            if name.lower().endswith(".zip") or name in tars:
                archives.append(parent / name)
            elif not is_hidden(name):
                yield Place(parent / name)
    for archive in archives:
        try:
            listed = members(archive)
        except UserError as error:
            if broken is None or archive.name in tars:
                raise
            broken.append(error)
            continue
        for member, content in listed.items():
            if not any(is_hidden(part) for part in member.removeprefix("./").split("/")):
                yield Place(archive, member, content)


def walked(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Each folder below this one, with the names of folders and files in it, sorted; hidden folders are none.

    Links are followed, once: people link to the copy that a group shares. Names that are taken away are not entered.
    """
    entered: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(parent)) in entered:  # a link to a folder above has no end
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield Path(parent), folders, sorted(names)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the dataset's: ``.DS_Store``, ``._image.jpg``."""
    return name.startswith((".", "__MACOSX"))


def own_folder(data_dir: str, *names: str) -> Path:
    """A dataset's folder: the first of these in `data_dir` with anything in it, else `data_dir` itself."""
    root = Path(data_dir).absolute()
    return next((root / name for name in names if _has_entries(root / name)), root)


def _has_entries(folder: Path) -> bool:
    """Whether a folder has entries that are not hidden; one that may not be read has, and its reader names it."""
    try:
        with os.scandir(folder) as entries:
            return any(not is_hidden(entry.name) for entry in entries)
    except OSError:
        return folder.is_dir()
