"""Image files in a user's folder: their suffixes, and what one shows."""

from dataclasses import dataclass, field
from pathlib import Path

from fewshot.data.files.places import is_hidden

SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
}
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What people call the parts of a split."""


@dataclass(frozen=True)
class Image:
    """An image that a folder holds.

    Attributes:
        label: its class.
        split: ``train``, ``val``, ``test``, or empty where the folder has no split.
        columns: the values of further columns of a csv file.
    """

    path: Path
    label: str
    split: str = ""
    columns: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def origin(self) -> str:
        """What to call it in an error."""
        return str(self.path)

    def read(self) -> bytes:
        """The image file."""
        return self.path.read_bytes()


def visible(folder: Path) -> list[Path]:
    """What a folder holds, sorted, but for hidden files and folders."""
    return sorted(path for path in folder.iterdir() if not is_hidden(path.name))


def is_image(path: Path) -> bool:
    """Whether a file's name is an image's."""
    return path.suffix.lower() in SUFFIXES
