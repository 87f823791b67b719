"""Images that stay on the device: the same tasks, the same runs, and nothing but numbers travels."""

import pytest
import torch

from fewshot.data import device_cache
from fewshot.data.device_cache import DeviceCache
from fewshot.data.meta_batches import MetaBatches, Share
from fewshot.errors import UserError
from fewshot.runtime.train import train
from fewshot.tasks.batch import TaskBatch
from tests.runtime.sameness import what_a_run_left

CPU = torch.device("cpu")


@pytest.mark.slow
def test_a_run_leaves_the_same_and_moves_numbers_only(compose_config, tmp_path, monkeypatch):
    """6 meta-batches of training, 2 times 3 of validation, 4 of test; those that are pictured come with images."""
    draw = MetaBatches.__getitem__
    with_images = []

    def looked_at(batches, i):
        (batch,) = draw(batches, i)
        with_images.append(isinstance(batch, TaskBatch))
        return [batch]

    monkeypatch.setattr(MetaBatches, "__getitem__", looked_at)
    for choice in (False, True):
        with_images.clear()
        train(compose_config(tmp_path / str(choice), f"data.device_resident={choice}", "~callbacks.memory"))
        assert with_images.count(False) == (16 if choice else 0)
    assert what_a_run_left(tmp_path / "True/run") == what_a_run_left(tmp_path / "False/run")


@pytest.mark.parametrize("shuffled", [False, True])
def test_filled_in_tasks_are_the_gathered_ones(toy_data, shuffled):
    data = toy_data(shuffled_labels=shuffled)
    data.setup("fit")
    held = DeviceCache(True)
    assert held.hold("train", data.prepared["train"], CPU)
    whole, numbers = (data.meta_batches("train", 8, travels=given)[1][0] for given in (True, False))
    (filled,) = held.fill_in("train", [numbers])
    assert torch.equal(filled.support_x, whole.support_x)
    assert torch.equal(filled.query_x, whole.query_x)
    assert torch.equal(filled.query_y, whole.query_y)


def test_a_process_without_tasks_gets_none(toy_data):
    data = toy_data()
    data.setup("test")
    held = DeviceCache(True)
    held.hold("test", data.prepared["test"], CPU)
    assert data.meta_batches("test", 1, Share(0, 2), travels=False)[0] == []
    assert held.fill_in("test", []) == []


def test_auto_takes_a_gpu_with_ample_room(toy_data, monkeypatch):
    split = toy_data().prepared["train"]
    size, cuda = split.arrays[0].bytes, torch.device("cuda")
    assert size == 10 * 12 * 256
    for free, expected in ((device_cache.SHARE * size, True), (device_cache.SHARE * size - 1, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_, free=free: (free, 2**40))
        assert device_cache._has_room(size, cuda) is expected
    assert not DeviceCache("auto").hold("train", split, CPU)


def test_released_images_are_gone(toy_data):
    data = toy_data()
    held = DeviceCache(True)
    held.hold("train", data.prepared["train"], CPU)
    held.release()
    data.setup("fit")
    numbers = data.meta_batches("train", 4, travels=False)[0][0]
    with pytest.raises(KeyError):
        held.fill_in("train", [numbers])


@pytest.mark.parametrize("choice", ["maybe", None, 2])
def test_other_choices_are_refused(choice):
    with pytest.raises(UserError, match=rf"data\.device_resident={choice} is unknown; choose true, false or auto"):
        DeviceCache(choice)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_they_stay_there(toy_data):
    data = toy_data()
    data.setup("fit")
    held = DeviceCache("auto")
    assert held.hold("train", data.prepared["train"], torch.device("cuda"))
    (filled,) = held.fill_in("train", [data.meta_batches("train", 4, travels=False)[0][0].to("cuda")])
    assert filled.support_x.device.type == "cuda"
    assert torch.equal(filled.support_x.cpu(), data.meta_batches("train", 4)[0][0].support_x)
