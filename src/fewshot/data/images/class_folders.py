"""Published datasets that are a folder of images for each class."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from fewshot.data.files.places import by_folder_and_name
from fewshot.data.images.image_files import SUFFIXES
from fewshot.data.images.listed import PlacedImage, PublishedImages


class ClassFolders(PublishedImages):
    """Images in a folder for each class, unpacked or in a zip archive.

    Args:
        name: of the dataset, as the catalogue has it.
        folder: its own folder in `data_dir`.
        data_dir: holds the class folders or archives, directly or in `folder`.
        image_shape: ``(C, H, W)`` that images are brought to.
        classes: that there must be; others are left out. None takes all.
        below: the folder that the class folders are in; None takes them wherever they are. Without a list of classes, the
            dataset must then be in its own folder.
        allow_partial: accept fewer classes and images.
    """

    forms = "a folder of images for each class, or a zip archive of them"

    def __init__(
        self,
        name: str,
        folder: str,
        data_dir: str,
        image_shape: Sequence[int],
        classes: Sequence[str] | None = None,
        below: str | None = None,
        allow_partial: bool = False,
    ) -> None:
        super().__init__(data_dir, image_shape, allow_partial)
        self.name = self.counted = name
        self.folder, self._classes, self._below = folder, classes, below

    def found(self) -> Iterator[PlacedImage]:
        if self._classes is None and self._below and self.where == (root := Path(self._data_dir).absolute()):
            # whatever else lies in `data_dir` has such folders too
            raise self.lacking(
                f"{root / self.folder} is missing or empty; put there {self.forms}, or set paths.data_dir=FOLDER"
            )
        wanted = [
            place
            for place in self.every
            if place.name.suffix.lower() in SUFFIXES
            and (not self._classes or place.folder in self._classes)
            and self._below in (None, place.name.parent.parent.name)
        ]
        seen = set()
        for key, place in by_folder_and_name(wanted).items():
            seen.add(place.folder)
            yield PlacedImage(place, place.folder, {"file": key})
        if seen and not self._allow_partial and (missing := sorted(set(self._classes or ()) - seen)):
            raise self.lacking(
                f"paths.data_dir={self._data_dir} lacks class {missing[0]} of {self.name}; put the dataset there or in its "
                f"{self.folder}/, or accept fewer classes with data.allow_partial=true"
            )
