"""Folders of classes as people have them: alone, or in folders of a split, which may divide classes or the images of each."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from fewshot.data.files.places import Place
from fewshot.data.images.image_files import SPLIT_NAMES, SUFFIXES
from fewshot.data.images.listed import PlacedImage

Files = dict[str, Place]
"""By the file's name with the folders above it."""


def in_class_folders(
    root: Path, places: Iterable[Place], label_of: Callable[[Place], str | None], joined: bool
) -> Iterator[PlacedImage]:
    """The images in folders of classes, sorted by file.

    Of several trees of such folders, as a dataset and a smaller copy beside it, the one with the most classes and images.

    Args:
        root: that all lie below.
        label_of: the class that an image's folder means, if any.
        joined: a class that is in several folders of a split has the images of all, as in the train and test images of
            CIFAR-100; else those of the training folder alone.
    """
    trees: dict[PurePosixPath, dict[str, dict[str, Files]]] = {}
    for place in places:
        label = label_of(place) if place.name.suffix.lower() in SUFFIXES else None
        if label is not None:
            file = PurePosixPath(place.member) if place.member else PurePosixPath(place.path.relative_to(root).as_posix())
            above = file.parent.parent
            part = split_folder(above.name)
            of_class = trees.setdefault(above.parent if part else above, {}).setdefault(label, {})
            of_class.setdefault(part or "train", {}).setdefault(file.as_posix(), place)
    if not trees:
        return
    best = max(trees, key=lambda tree: (len(trees[tree]), _count(trees[tree]), -len(tree.parts), tree.as_posix()))
    for label, of_split in trees[best].items():
        folders = of_split.values() if joined or "train" not in of_split else [of_split["train"]]
        for name, place in sorted(item for files in folders for item in files.items()):
            yield PlacedImage(place, label, {"file": name})


def split_folder(name: str) -> str | None:
    """The part of a split that a folder is called after, if any: ``meta-val``, ``novel``."""
    name = re.sub(r"^meta[-_]", "", name.lower())
    return {"base": "train", "novel": "test"}.get(name) or SPLIT_NAMES.get(name)


def _count(tree: dict[str, dict[str, Files]]) -> int:
    return sum(len(files) for of_class in tree.values() for files in of_class.values())
