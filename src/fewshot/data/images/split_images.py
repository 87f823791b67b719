"""Published datasets of images whose classes are divided by one of the splits in circulation."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fewshot.data.files.stored import StoredImage, forget_stored
from fewshot.data.images.listed import PlacedImage, PublishedImages
from fewshot.data.published import check_split, published_classes

log = logging.getLogger(__name__)

AnyImage = PlacedImage | StoredImage


class SplitImages(PublishedImages):
    """A published dataset in train, val and test: parts have the classes that a split names, wherever their images lie.

    Args:
        data_dir: holds the dataset, directly or in the folder `folder`.
        image_shape: ``(C, H, W)`` that images are brought to.
        split: of those in circulation (`published.splits_of`); None takes `usual`.
        allow_partial: accept fewer classes and images.

    Attributes:
        usual: the split that is taken where none is named.
    """

    usual: str

    def __init__(
        self, data_dir: str, image_shape: Sequence[int], split: str | None = None, allow_partial: bool = False
    ) -> None:
        super().__init__(data_dir, image_shape, allow_partial)
        self.split = check_split(self.folder, self.usual if split is None else split)
        self.parts = tuple(part for part, names in published_classes(self.folder, self.split).items() if names)
        self.name = f"{self.folder}-{self.split}" + "-partial" * allow_partial
        self._of_parts: dict[str, list[AnyImage]] = {}

    def found(self) -> Iterable[PlacedImage]:
        """All images; a form that keeps its parts apart overrides `found_in` instead."""
        return ()

    def found_in(self, part: str) -> Iterable[AnyImage]:
        """All images of a part, those of a class in an order that says nothing of how they were found; here those of `found`.

        Raises:
            UserError: files are missing, or not this dataset.
        """
        return self.of_part(part, self._listed)

    def of_part(self, part: str, images: Iterable[AnyImage]) -> list[AnyImage]:
        """The images of a part's classes, which have their name, or where a form has no names the part's and a number."""
        wanted = set(published_classes(self.folder, self.split)[part])
        return [image for image in images if image.label in wanted or image.label.startswith(f"{part} ")]

    def check_sizes(self, part: str, sizes: Mapping[str, int]) -> None:
        """Refuses classes of a whole dataset that have not as many images as are published."""

    def listed(self, part: str) -> Sequence[AnyImage]:  # type: ignore[override]
        if part not in self._of_parts:
            images = sorted(self.found_in(part), key=lambda image: image.label)
            self._check(part, Counter(image.label for image in images))
            self._of_parts[part] = images
        return self._of_parts[part]

    def files(self, part: str) -> list[Path]:
        images = self.listed(part)
        listings = {image.listing for image in images if isinstance(image, StoredImage) and image.listing}
        return sorted({image.place.path for image in images} | {place.path for place in [*listings, *self._read]})

    def images(self, split: str) -> Iterator[npt.NDArray[np.uint8]]:
        try:
            yield from super().images(split)
        finally:
            forget_stored()

    def _check(self, part: str, sizes: Mapping[str, int]) -> None:
        expected = published_classes(self.folder, self.split)[part]
        skip = "; or run with test=false, which needs no test images" if part == "test" else ""
        if not sizes:
            raise self.lacking(f"{self.where} holds no {part} image of {self.name}; put there {self.forms}{skip}")
        if len(sizes) < len(expected) and not self._allow_partial:
            first = next((f" (first: {name})" for name in expected if name not in sizes and sizes.keys() & set(expected)), "")
            raise self.lacking(
                f"{self.where} lacks {len(expected) - len(sizes)} of the {len(expected)} {part} classes of {self.name}{first}; "
                f"put them there, or accept fewer with data.allow_partial=true{skip}"
            )
        if not self._allow_partial:
            self.check_sizes(part, sizes)
        nameless = "" if sizes.keys() & set(expected) else ", without names: nothing tells whether a checkpoint has seen them"
        log.info(f"{self.name} {part}: {len(sizes)} classes{nameless}, {sum(sizes.values()):,} images")
