"""Who runs at once on a machine, and on what."""

import pytest
from omegaconf import OmegaConf

from fewshot.errors import UserError
from fewshot.sweep import resources
from fewshot.sweep.resources import Resources


def job(devices=1, accelerator="auto"):
    return OmegaConf.create({"trainer": {"devices": devices, "accelerator": accelerator}})


@pytest.fixture(autouse=True)
def _no_threads_asked_for(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def test_cores_are_shared_equally():
    machine = Resources(jobs=3, gpus=[], cores=8)
    taken = [machine.acquire(job()) for _ in range(3)]
    assert [place.environment for place in taken] == [{"OMP_NUM_THREADS": "2"}] * 3
    assert machine.full()
    assert machine.acquire(job()) is None
    machine.release(taken[1])
    assert not machine.full()
    assert machine.acquire(job()) is not None


def test_the_processes_of_a_job_share_its_cores():
    assert Resources(1, [], 8).acquire(job(devices=4, accelerator="cpu")).environment == {"OMP_NUM_THREADS": "2"}


def test_a_job_for_every_core_or_gpu_unless_told_otherwise():
    assert Resources(None, [], 8).jobs == 8
    assert Resources(None, ["0", "1"], 8).jobs == 2
    assert Resources(1, ["0", "1"], 8).jobs == 1


def test_threads_that_the_environment_asks_for_stay(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert Resources(1, [], 8).acquire(job()).environment == {"OMP_NUM_THREADS": "1"}


def test_gpus_are_given_out_one_by_one():
    machine = Resources(None, ["0", "GPU-b", "2"], 6)
    first, second = machine.acquire(job(devices=2)), machine.acquire(job(devices=2))
    assert first.environment["CUDA_VISIBLE_DEVICES"] == "0,GPU-b"
    assert second is None
    third = machine.acquire(job())
    assert third.environment["CUDA_VISIBLE_DEVICES"] == "2"
    assert "CUDA_VISIBLE_DEVICES" not in machine.acquire(job(accelerator="cpu")).environment
    machine.release(first)
    assert machine.acquire(job(devices=[0])).gpus == ("0",)


def test_more_gpus_than_there_are():
    with pytest.raises(UserError, match=r"trainer\.devices=4 but there are 2 GPUs; choose 2 or fewer"):
        Resources(None, ["0", "1"], 8).acquire(job(devices=4))


def test_no_jobs_at_once():
    with pytest.raises(UserError, match=r"hydra\.launcher\.jobs=0 must be a whole number of at least 1"):
        Resources(0, [], 8)


@pytest.mark.parametrize(("visible", "found"), [("", []), ("-1", []), ("3", ["3"]), ("0,GPU-x", ["0", "GPU-x"])])
def test_gpus_are_those_that_may_be_used(monkeypatch, visible, found):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert resources.gpus() == found


def test_without_a_driver_there_are_none(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert resources.gpus() == []
