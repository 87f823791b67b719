"""What is known of each dataset beside its content: what it is, under which licence, how large, where it comes from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

from fewshot.errors import UserError, suggest

FILE = "catalogue.yaml"


@dataclass(frozen=True)
class PublishedFile:
    """A file that a dataset is downloaded as.

    Attributes:
        name: in the dataset's folder.
        urls: mirrors, tried in this order; empty where a browser (an account, terms to agree to) is needed.
        bytes: its size, where it is published.
        md5, sha256: its digests, where one is published; never of ``.gz``, which are compressed anew by who hands them on.
    """

    name: str
    urls: tuple[str, ...] = ()
    bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Facts:
    """Of one dataset.

    Attributes:
        name: of its config, ``data=NAME``.
        title: what it is, in one line.
        licence: its terms.
        page: where it is published.
        classes, images: how many, where that is fixed.
        files: that it is downloaded as.
        note: what its page does not say, or no longer; and which other datasets have its classes.
        get: how it comes here, where its files do not say it.
        rows: how many are read of a whole one, where no number of images is published; repetitions are left out.
        unread: a file of it that is not read here.
    """

    name: str
    title: str
    licence: str
    page: str
    classes: int | None = None
    images: int | None = None
    files: tuple[PublishedFile, ...] = ()
    note: str = ""
    get: str = ""
    rows: int | None = None
    unread: str = ""

    @property
    def is_embedded(self) -> bool:
        """Whether it is made here, from what is installed."""
        return self.page.startswith("embedded")

    @property
    def bytes(self) -> int | None:
        """Of all files, where all sizes are known."""
        sizes = [file.bytes for file in self.files if file.bytes is not None]
        return sum(sizes) if sizes and len(sizes) == len(self.files) else None


@cache
def catalogue() -> Mapping[str, Facts]:
    """All datasets, by name."""
    entries = yaml.safe_load((resources.files("fewshot.data") / FILE).read_text("utf-8"))
    return {name: _facts(name, entry) for name, entry in sorted(entries.items())}


def facts(name: str) -> Facts:
    """Of a dataset.

    Raises:
        UserError: there is none of that name.
    """
    if name not in catalogue():
        raise UserError(f"{name} is no dataset{suggest(name, catalogue())}")
    return catalogue()[name]


def download_hint(name: str) -> str:
    """The end of a message that a dataset is not there, where it can be downloaded."""
    known = catalogue().get(name)
    return f"; python -m fewshot.data prepare {name} downloads it" if known and any(file.urls for file in known.files) else ""


def lacking(message: str, name: str, broken: Sequence[UserError] = ()) -> UserError:
    """The error that something of a dataset is not there.

    Args:
        message: what, and what to do.
        name: of the dataset, whose download is the other remedy.
        broken: what is wrong with archives that were left out, and may hold it.
    """
    return UserError("; besides, ".join([message + download_hint(name), *map(str, broken)]))


def _facts(name: str, entry: dict[str, object]) -> Facts:
    files = tuple(
        PublishedFile(**{**file, "urls": tuple(file.get("urls", ()))})
        for file in entry.pop("files", ())  # type: ignore[attr-defined]
    )
    return Facts(name, files=files, **entry)  # type: ignore[arg-type]
