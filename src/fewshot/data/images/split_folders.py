"""Published datasets that are a folder of images for each class, divided by one of the splits in circulation."""

from collections.abc import Iterator, Sequence

from fewshot.data.files.places import Place
from fewshot.data.images.class_trees import in_class_folders
from fewshot.data.images.listed import PlacedImage
from fewshot.data.images.split_images import SplitImages
from fewshot.data.published import part_of_class


class SplitFolders(SplitImages):
    """Images in a folder for each class that a split names, unpacked or in an archive; others are left out.

    Args:
        folder: the dataset, and its own folder in `data_dir`.
        data_dir: holds the class folders or archives, directly or in `folder`.
        image_shape: ``(C, H, W)`` that images are brought to.
        usual: the split where none is named.
        below: the folder that the class folders are in; None takes them wherever they are.
        other_folders: what else the own folder is called.
        tars: names of the tar archives that are read.
        split: of the classes; None takes `usual`.
        allow_partial: accept fewer classes and images.
    """

    forms = "a folder of images for each class, or an archive of them"

    def __init__(
        self,
        folder: str,
        data_dir: str,
        image_shape: Sequence[int],
        usual: str,
        below: str | None = None,
        other_folders: Sequence[str] = (),
        tars: Sequence[str] = (),
        split: str | None = None,
        allow_partial: bool = False,
    ) -> None:
        self.folder, self.usual, self.other_folders, self.tars = folder, usual, tuple(other_folders), tuple(tars)
        super().__init__(data_dir, image_shape, split, allow_partial)
        self._below, self.counted = below, folder

    def found(self) -> Iterator[PlacedImage]:
        classes = part_of_class(self.folder, self.split)

        def label(place: Place) -> str | None:
            return place.folder if place.folder in classes and self._below in (None, place.name.parent.parent.name) else None

        return in_class_folders(self.where, self.every, label, joined=True)
