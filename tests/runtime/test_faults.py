"""What breaks under a run: each ends in a clear message, with nothing lost."""

import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from fewshot.errors import UserError
from fewshot.models.maml import MAML
from fewshot.runtime.checkpoints import read_checkpoint
from fewshot.runtime.train import train
from tests.entry import QUICK, main
from tests.forked import fork, wait_for
from tests.runtime.sameness import what_a_run_left

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]
LONG = (
    "trainer.max_steps=100",
    "callbacks.last.every_n_steps=10",
    "callbacks.progress.refresh_rate=0",
    "data.val_tasks=2",
    "trainer.val_check_interval=50",
)


def arguments(folder, *more):
    return [*QUICK, f"hydra.run.dir={folder / 'run'}", f"paths.cache_dir={folder / 'cache'}", *more]


def poisoned(monkeypatch, steps):
    """Makes the loss of the second task of some outer steps not a number."""
    original = MAML.meta_gradient

    def meta_gradient(self, batch, tasks=None):
        losses, outputs = original(self, batch, tasks)
        if self.trainer.global_step in steps:
            losses = losses.clone()
            losses[1] = float("nan")
        return losses, outputs

    monkeypatch.setattr(MAML, "meta_gradient", meta_gradient)


def test_a_loss_that_is_no_number_stops_the_run(quick_config, tmp_path, monkeypatch):
    poisoned(monkeypatch, {4})
    with pytest.raises(
        UserError, match=r"outer step 4: training task 17 is not finite; the last good checkpoint is kept\. Lower"
    ):
        train(quick_config(tmp_path, "callbacks.last.every_n_steps=1"))
    last = read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")
    assert last["global_step"] == 4
    assert all(tensor.isfinite().all() for tensor in last["state_dict"].values())


def test_such_a_step_can_be_skipped(quick_config, tmp_path, monkeypatch, caplog):
    poisoned(monkeypatch, {2, 4})
    train(quick_config(tmp_path, "model.on_nonfinite=skip"))
    last = read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")
    assert (last["global_step"], last["fewshot"]["skipped_steps"]) == (6, 2)
    assert all(tensor.isfinite().all() for tensor in last["state_dict"].values())
    assert "Outer step 2 skipped: training task 9 is not finite (1 so far)" in caplog.text
    assert '"skipped_steps": 2' in (tmp_path / "run/results.json").read_text()


def test_a_gradient_that_is_infinite_stops_the_run(quick_config, tmp_path):
    with pytest.raises(UserError, match=r"is not finite; the last good checkpoint is kept"):
        train(quick_config(tmp_path, "model.inner.lr=1e30", "model.inner.steps=3"))


def test_a_file_that_may_grow_no_further(tmp_path):
    """A limit on the size of files stands for a quota: the first checkpoint does not fit, and nothing half-written stays."""

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))  # enough for the prepared images

    wide = arguments(tmp_path, "model.backbone.hidden=[32]")
    process = fork("train.py", *wide, output=tmp_path / "out", before=limited)
    assert process.wait() == 2, (tmp_path / "out").read_text()
    assert (
        "cannot be written (File too large); free it or choose another with hydra.run.dir=FOLDER"
        in (tmp_path / "out").read_text()
    )
    assert list((tmp_path / "run/checkpoints").iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up(small_disk, tmp_path):
    """The run ends with one line; once there is room, the same command goes on and leaves what an undisturbed one leaves."""
    long = (*LONG, "logger=csv", "trainer.max_steps=60")
    folders = [f"hydra.run.dir={small_disk / 'run'}", f"paths.cache_dir={tmp_path / 'cache'}"]
    process = fork("train.py", *QUICK, *long, *folders, output=tmp_path / "out")
    wait_for((small_disk / "run/checkpoints/last.ckpt").exists)
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb") as file:  # noqa: PT012
        while True:
            file.write(bytes(4096))
            file.flush()
    code = process.wait()
    assert code == 2, (tmp_path / "out").read_text()
    assert "No space left on device" in (tmp_path / "out").read_text()
    assert "Traceback" not in (tmp_path / "out").read_text()
    read_checkpoint(small_disk / "run/checkpoints/last.ckpt")
    filler.unlink()
    assert fork("train.py", *QUICK, *long, *folders, output=tmp_path / "out").wait() == 0, (tmp_path / "out").read_text()
    assert (
        main("train.py", *QUICK, *long, f"hydra.run.dir={tmp_path / 'run'}", f"paths.cache_dir={tmp_path / 'cache'}").code == 0
    )
    assert (small_disk / "run/metrics.csv").read_text() == (tmp_path / "run/metrics.csv").read_text()


def test_prepared_images_that_are_deleted_under_a_run(tmp_path):
    """Training has mapped its images and goes on; for the test they are missed, and the same command makes them anew."""
    process = fork("train.py", *arguments(tmp_path, *LONG), output=tmp_path / "out")
    wait_for((tmp_path / "run/checkpoints/last.ckpt").exists)
    for split in ("train", "val", "test"):
        (tmp_path / f"cache/toy/{split}/images.npy").unlink()
    assert process.wait() == 2, (tmp_path / "out").read_text()
    said = (tmp_path / "out").read_text()
    assert "test/images.npy cannot be opened (No such file or directory); the same command prepares it anew and goes on" in said
    assert "Traceback" not in said
    assert main("train.py", *arguments(tmp_path, *LONG)).code == 0
    assert main("train.py", *arguments(tmp_path, *LONG, f"hydra.run.dir={tmp_path / 'undisturbed'}")).code == 0
    left, expected = (what_a_run_left(tmp_path / name) for name in ("run", "undisturbed"))
    for key in expected:
        assert left[key] == expected[key], key


def test_a_corrupt_prepared_file_is_made_anew(tmp_path):
    folders = [arguments(tmp_path, f"hydra.run.dir={tmp_path / name}", "trainer.max_steps=2") for name in ("first", "second")]
    assert main("train.py", *folders[0]).code == 0
    path = tmp_path / "cache/toy/train/images.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:])
    done = main("train.py", *folders[1])
    assert "Preparing toy train" in done.out
    assert path.read_bytes() == whole
    assert (tmp_path / "first/metrics.csv").read_text() == (tmp_path / "second/metrics.csv").read_text()


def test_a_loader_worker_that_is_killed(tmp_path):
    process = fork(
        "train.py", *arguments(tmp_path, *LONG, "trainer.max_steps=100000", "data.num_workers=1"), output=tmp_path / "out"
    )
    wait_for((tmp_path / "run/checkpoints/last.ckpt").exists)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    assert process.wait() == 2, (tmp_path / "out").read_text()
    said = (tmp_path / "out").read_text()
    assert "error: data.num_workers: DataLoader worker" in said
    assert "the same command continues the run" in said
    assert "Traceback" not in said


@pytest.fixture(scope="module")
def undisturbed(quick_config, tmp_path_factory):
    """What a run leaves that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    train(quick_config(folder))
    return what_a_run_left(folder / "run")


def test_a_clock_that_jumps(undisturbed, quick_config, tmp_path, monkeypatch):
    """Backwards, by an hour, each time somebody asks."""
    clock = iter(range(2_000_000_000, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    train(quick_config(tmp_path))
    jumping = what_a_run_left(tmp_path / "run")
    for key in ("metrics.csv", "results", "last", "best"):
        assert jumping[key] == undisturbed[key], key


def test_workers_change_nothing(undisturbed, quick_config, tmp_path):
    train(quick_config(tmp_path, "data.num_workers=2"))
    left = what_a_run_left(tmp_path / "run")
    for key in ("metrics.csv", "results", "last", "best", "test_tasks.csv"):
        assert left[key] == undisturbed[key], key


def test_memory_stays_flat(quick_config, tmp_path):
    """After 30 outer steps, 100 more leave no tensor behind and take no more than 30 MiB."""
    import gc

    from lightning.pytorch.callbacks import Callback

    seen = {}

    class Watch(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx in (30, 130):
                gc.collect()
                tensors = sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())
                resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
                seen[batch_idx] = (tensors, resident)

    cfg = quick_config(tmp_path, "trainer.max_steps=131", "trainer.val_check_interval=131", "test=false", "logger=csv")
    from fewshot.runtime import train as module

    build = module.build_trainer
    with pytest.MonkeyPatch.context() as patch:

        def with_watch(*args, **kwargs):
            trainer = build(*args, **kwargs)
            trainer.callbacks.append(Watch())
            return trainer

        patch.setattr(module, "build_trainer", with_watch)
        train(cfg)
    assert seen[130][0] <= seen[30][0] + 5
    assert seen[130][1] - seen[30][1] < 30 * 2**20
