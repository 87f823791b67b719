"""What the other libraries share here: images in memory, learn2learn's tasks and networks."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset
from torchvision.transforms import v2

from benchmarks.settings import Setting
from benchmarks.stopwatch import DEVICE, Stopwatch
from benchmarks.synthetic import CLASSES, IMAGES

warnings.simplefilter("ignore")  # they are what they are


class Labelled(TensorDataset):
    """Float images in memory, as learn2learn keeps mini-ImageNet."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(torch.rand(CLASSES * IMAGES, *shape), torch.arange(CLASSES).repeat_interleave(IMAGES))

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = super().__getitem__(index)
        return image, int(label)


class Files(Dataset[tuple[Tensor, int]]):
    """A drawing a file, read where a task has it: as learn2learn's Omniglot does."""

    def __init__(self, folder: Path, shape: tuple[int, int, int]) -> None:
        self._paths = [folder / f"{i}.png" for i in range(CLASSES * IMAGES)]
        for path in self._paths:
            Image.effect_noise((105, 105), 100).convert("1").save(path)
        _, side, _ = shape
        resize = v2.Resize(side, v2.InterpolationMode.LANCZOS)
        self._transform = v2.Compose([resize, v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self._paths[index]) as image:
            return 1.0 - self._transform(image.convert("L")), index // IMAGES


def tasks(setting: Setting, images: Dataset[tuple[Tensor, int]] | None = None) -> Any:
    """learn2learn's tasks over images, in memory unless given, put together as in its examples."""
    import learn2learn as l2l
    from learn2learn.data.transforms import ConsecutiveLabels, FusedNWaysKShots, LoadData, RemapLabels

    dataset = l2l.data.MetaDataset(images or Labelled(setting.shape))
    transforms = [
        FusedNWaysKShots(dataset, n=setting.ways, k=setting.shots + setting.queries),
        LoadData(dataset),
        RemapLabels(dataset),
        ConsecutiveLabels(dataset),
    ]
    return l2l.data.Taskset(dataset, task_transforms=transforms, num_tasks=20_000)


def split(setting: Setting, task: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Support images and labels, query images and labels: of each class the first are the support."""
    images, labels = (part.to(DEVICE) for part in task)
    within = torch.arange(len(labels), device=DEVICE) % (setting.shots + setting.queries)
    support = within < setting.shots
    return images[support], labels[support], images[~support], labels[~support]


def outer_steps(
    setting: Setting, count: int, stopwatch: Stopwatch, optimizer: torch.optim.Optimizer
) -> Iterator[Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]]:
    """Meta-batches of tasks, timed; once the gradients of one are there, the optimizer steps."""
    taskset = tasks(setting)
    stopwatch.start()
    for _ in range(count):
        optimizer.zero_grad()
        yield (split(setting, taskset.sample()) for _ in range(setting.tasks))
        optimizer.step()
        stopwatch.lap()


def network(setting: Setting) -> nn.Module:
    """learn2learn's Conv4."""
    from learn2learn.vision import models

    if not setting.pooled:
        omniglot: nn.Module = models.OmniglotCNN(setting.ways, hidden_size=setting.filters)
        return omniglot.to(DEVICE)
    side = setting.shape[1] // 16
    mini: nn.Module = models.MiniImagenetCNN(
        setting.ways, hidden_size=setting.filters, embedding_size=setting.filters * side * side
    )
    return mini.to(DEVICE)
