"""Tests of augmentation: a function of the task alone, other for each image, and without traces in the global generator."""

import random

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from fewshot.data.images.augment import Augment

CROP = v2.RandomCrop(16, padding=4)
FLIP = v2.RandomHorizontalFlip()
NOISE = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.GaussianNoise()])


def pictures(count=8):
    return torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def copies(count=8):
    return pictures(1).repeat(count, 1, 1, 1)


def different(images):
    return len(torch.unique(images.flatten(1), dim=0))


@pytest.mark.parametrize("transform", [CROP, FLIP, NOISE, v2.RandomRotation(90), v2.RandomErasing(p=0.9)])
def test_a_task_is_augmented_alike_whatever_ran_before(transform):
    torch.manual_seed(1)
    augment = Augment([transform], seed=0)
    alone = augment(pictures(), 7, 0)
    augment(pictures(3), 6, 0)
    torch.rand(5)
    assert torch.equal(augment(pictures(), 7, 0), alone)
    torch.manual_seed(2)
    assert torch.equal(Augment([transform], seed=0)(pictures(), 7, 0), alone)


def test_an_image_is_augmented_alike_whatever_follows_it():
    augment = Augment([CROP], seed=0)
    assert torch.equal(augment(pictures()[:3], 7, 0), augment(pictures(), 7, 0)[:3])


@pytest.mark.parametrize("other", [(0, 8, 0), (0, 7, 1), (1, 7, 0)], ids=["task", "part", "seed"])
def test_tasks_parts_and_seeds_are_augmented_differently(other):
    seed, task, part = other
    assert not torch.equal(Augment([CROP], 0)(pictures(), 7, 0), Augment([CROP], seed)(pictures(), task, part))


def test_images_of_one_call_are_augmented_each_in_its_own_way():
    assert different(Augment([CROP], seed=0)(copies(), 0, 0)) > 5
    assert different(Augment([FLIP], seed=0)(copies(), 0, 0)) == 2


def test_transforms_are_applied_in_turn():
    images = Augment([v2.Pad(2), v2.CenterCrop(16), v2.RandomInvert(p=1.0)], seed=0)(pictures(), 0, 0)
    assert torch.equal(images, 255 - pictures())


def test_without_transforms_images_stay():
    assert torch.equal(Augment([], seed=0)(pictures(), 0, 0), pictures())


def test_the_given_images_are_left_alone():
    given = pictures()
    Augment([v2.RandomErasing(p=1.0), FLIP], seed=0)(given, 0, 0)
    assert torch.equal(given, pictures())


def test_global_generators_are_left_as_they_were():
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002  the global one is meant
    random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    Augment([CROP, FLIP, NOISE], seed=0)(pictures(), 5, 0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert random.getstate() == before[2]


def test_global_generators_are_left_where_a_transform_fails():
    def fails(image):
        torch.rand(1)
        raise ValueError("no image")

    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="no image"):
        Augment([fails], seed=0)(pictures(), 0, 0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("place", ["cpu", "cuda"])
def test_the_device_s_generator_is_left_as_it_was(place):
    torch.cuda.manual_seed(3)
    before = torch.cuda.get_rng_state()
    Augment([NOISE], seed=0)(pictures().to(place), 5, 0)
    assert torch.equal(torch.cuda.get_rng_state(), before)
