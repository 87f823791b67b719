"""Published data sets that are a folder of images for each class."""

from collections.abc import Iterator, Sequence

from fewshot.data.images.folder_listing import SUFFIXES
from fewshot.data.images.listed import PlacedImage, PublishedImages
from fewshot.errors import UserError


class ClassFolders(PublishedImages):
    """Images in a folder for each class, unpacked or in a zip archive.

    Args:
        name: of the data set.
        folder: its own folder in `data_dir`.
        data_dir: holds the class folders or archives, directly or in `folder`.
        image_shape: ``(C, H, W)`` that images are brought to.
        classes: that there must be; others are left out. None takes all.
        below: the folder that the class folders are in; None takes them wherever they are.
        allow_partial: accept fewer classes.
    """

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
        self.name, self.folder, self._classes, self._below = name, folder, classes, below

    def found(self) -> Iterator[PlacedImage]:
        seen = set()
        for key, place in self.places.items():
            label = place.folder
            if place.name.suffix.lower() not in SUFFIXES or (self._classes and label not in self._classes):
                continue
            if self._below in (None, place.name.parent.parent.name):
                seen.add(label)
                yield PlacedImage(place, label, {"file": key})
        if not self._allow_partial and (missing := sorted(set(self._classes or ()) - seen)):
            raise UserError(
                f"paths.data_dir={self._data_dir} lacks class {missing[0]} of {self.name}; put the data set there or in its "
                f"{self.folder}/, or accept fewer classes with data.allow_partial=true"
            )
