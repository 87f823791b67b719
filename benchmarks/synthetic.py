"""Images of noise: what they show does not matter to the clock."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fewshot.data.source import SPLITS, ImageClass, ImageSource

CLASSES, IMAGES = 64, 20


class Noise(ImageSource):
    """As many classes as mini-ImageNet trains on, with as many images as a character of Omniglot has."""

    version = 1

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.name = "noise-" + "x".join(str(size) for size in shape)
        self.image_shape = tuple(shape)

    def files(self, split: str) -> list[Path]:
        return []

    def classes(self, split: str) -> list[ImageClass]:
        return [ImageClass(f"{split}{i:03d}", "noise", IMAGES) for i in range(CLASSES)]

    def images(self, split: str) -> Iterator[npt.NDArray[np.uint8]]:
        generator = np.random.Generator(np.random.PCG64(SPLITS.index(split)))
        for _ in range(CLASSES):
            yield generator.integers(0, 256, (IMAGES, *self.image_shape), dtype=np.uint8)
