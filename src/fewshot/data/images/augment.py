"""Random augmentation that is a function of the task, not of what ran before."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from fewshot.tasks.streams import stream_key

Transform = Callable[[Tensor], Tensor]


class Augment:
    """Applies torchvision v2 transforms to training images, each image with random parameters of its own.

    Called on a batch, a v2 transform draws once and flips or crops all images alike, so it is called image by image. The
    generator is seeded by the task's number: the same task is augmented alike in every run, resumed or not.

    Args:
        transforms: applied in turn to each image ``(C, H, W)`` of uint8, whose shape they keep.
        seed: of the run.
    """

    def __init__(self, transforms: Iterable[Transform], seed: int) -> None:
        self._transforms = list(transforms)
        self._seed = seed

    def __call__(self, images: Tensor, task: int, part: int) -> Tensor:
        """The images ``(rows, C, H, W)`` of a task's support (`part` 0) or query set (1), augmented."""
        # The transforms draw from the global generator; it is put back, so that nothing else depends on them.
        devices = [images.device] if images.is_cuda else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(int(stream_key("augment", self._seed, task, part)[0] >> 1))
            return torch.stack([self._transform(image) for image in images])

    def _transform(self, image: Tensor) -> Tensor:
        for transform in self._transforms:
            image = transform(image)
        return image
