"""What the other libraries share here: images in memory, learn2learn's tasks and networks."""

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.settings import Setting
from benchmarks.stopwatch import DEVICE, Stopwatch
from benchmarks.synthetic import CLASSES, IMAGES

warnings.simplefilter("ignore")  # they are what they are


class Labelled(TensorDataset):
    """Float images in memory, as learn2learn keeps mini-ImageNet (its Omniglot reads a file an image, slower)."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(torch.rand(CLASSES * IMAGES, *shape), torch.arange(CLASSES).repeat_interleave(IMAGES))

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = super().__getitem__(index)
        return image, int(label)


def tasks(setting: Setting) -> Any:
    """learn2learn's tasks over such images, put together as in its examples."""
    import learn2learn as l2l
    from learn2learn.data.transforms import ConsecutiveLabels, FusedNWaysKShots, LoadData, RemapLabels

    dataset = l2l.data.MetaDataset(Labelled(setting.shape))
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
