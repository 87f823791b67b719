"""Where the files of a data set are: in folders, or in zip archives there, which are not unpacked."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fewshot.data.files.archives import members, read_member
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

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            UserError: they cannot be read.
        """
        try:
            return read_member(self.path, self.member) if self.member else self.path.read_bytes()
        except OSError as error:
            raise UserError(f"{self.path} cannot be read ({error.strerror}); replace the file") from error


def places_below(folder: Path) -> dict[str, Place]:
    """All files below a folder and in the zip archives there: the last two parts of their names, ``folder/file`` -> place.

    A file comes before a member of an archive that is called the same.

    Raises:
        UserError: the folder is missing, or an archive is broken.
    """
    found: dict[str, Place] = {}
    for place in _places(require(folder)):
        found.setdefault(f"{place.folder}/{place.name.name}", place)
    return found


def _places(folder: Path) -> Iterator[Place]:
    archives = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for name in sorted(names):
            if name.lower().endswith(".zip"):
                archives.append(Path(parent, name))
            elif not name.startswith("."):
                yield Place(Path(parent, name))
    for archive in archives:
        for member, content in members(archive).items():
            if not member.startswith("__MACOSX"):
                yield Place(archive, member, content)


def own_folder(data_dir: str, name: str) -> Path:
    """A data set's folder: that of its name in `data_dir`, else `data_dir` itself."""
    root = Path(data_dir).absolute()
    return root / name if (root / name).is_dir() else root
