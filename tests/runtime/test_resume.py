"""A run that is stopped, killed or prolonged goes on as if nothing had happened."""

import math
import os
import shlex
import shutil
import signal
import time

import pytest
import torch
import yaml

from fewshot.tasks.streams import stream_key, uniforms
from tests.entry import QUICK, main
from tests.forked import fork, wait_for
from tests.runtime.sameness import what_a_run_left
from tests.toy import Toy

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]
SCHEDULE = "{_target_: torch.optim.lr_scheduler.CosineAnnealingLR, _partial_: true, T_max: '${trainer.max_steps}'}"
RECIPE = (
    *QUICK,
    "trainer.max_steps=12",
    "trainer.val_check_interval=5",
    "callbacks.last.every_n_steps=3",
    "callbacks.progress.refresh_rate=0",
    f"model.scheduler={SCHEDULE}",
)


def arguments(folder, *more):
    return [*RECIPE, f"hydra.run.dir={folder / 'run'}", f"paths.cache_dir={folder / 'cache'}", *more]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of the run that nothing interrupts, and the seconds that it takes."""
    folder = tmp_path_factory.mktemp("reference")
    process, started = fork("train.py", *arguments(folder), output=folder / "out"), time.monotonic()
    assert process.wait() == 0, (folder / "out").read_text()
    return folder, time.monotonic() - started


@pytest.fixture(scope="module")
def reference(undisturbed):
    """What that run leaves."""
    return what_a_run_left(undisturbed[0] / "run")


@pytest.fixture
def complete(undisturbed, tmp_path):
    """A copy of that run, for a test to do something to."""
    shutil.copytree(undisturbed[0], tmp_path, dirs_exist_ok=True)
    return tmp_path


def finish(folder, *more, script="train.py"):
    """Runs the command to its end, and returns what the run left."""
    assert fork(script, *arguments(folder, *more), output=folder / "out").wait() == 0, (folder / "out").read_text()
    return what_a_run_left(folder / "run")


def require_same(left, expected):
    """Piece by piece, so that a failure names what differs."""
    for key in expected:
        assert left[key] == expected[key], key


def kill(folder, *more, where="fewshot.models.base:MetaLearner.training_step", call=9):
    """Kills the run on the n-th call of a function, or in that outer step."""
    process = fork("train.py", *arguments(folder, *more), output=folder / "out", signal_in=(where, call))
    assert process.wait() == -signal.SIGKILL, (folder / "out").read_text()


def kill_at_random(folder, moment):
    """Kills the run after some seconds, and runs the same command again; returns what is left in the end."""
    process = fork("train.py", *arguments(folder), output=folder / "out")
    time.sleep(moment)
    process.send(signal.SIGKILL)
    process.wait()
    return finish(folder)


@pytest.mark.proof
def test_killed_at_any_moment(undisturbed, reference, tmp_path):
    """FEWSHOT_KILLS says how many moments, drawn at random over the whole run."""
    seconds = undisturbed[1]
    moments = uniforms(
        stream_key("kills", os.environ.get("FEWSHOT_KILLS_SEED", "0")), [0], int(os.environ.get("FEWSHOT_KILLS", "6"))
    )[0]
    for number, moment in enumerate(moments):
        folder = tmp_path / str(number)
        folder.mkdir()
        require_same(kill_at_random(folder, moment * seconds), reference)


@pytest.mark.parametrize(
    ("where", "step"),
    [
        ("fewshot.runtime.checkpoints:torch.save", 2),
        ("fewshot.files:os.fsync", 6),
        ("fewshot.runtime.callbacks:keep_as", 2),
        ("fewshot.models.base:MetaLearner.validation_step", 2),
        ("fewshot.models.base:MetaLearner.on_validation_epoch_end", 2),
        ("fewshot.models.base:MetaLearner.test_step", 2),
        ("fewshot.runtime.report:print_summary", 1),
    ],
)
def test_killed_where_it_hurts(reference, tmp_path, where, step):
    """In the middle of writing a checkpoint, of a validation, of the test: on the n-th call of a function."""
    kill(tmp_path, where=where, call=step)
    require_same(finish(tmp_path), reference)
    assert (tmp_path / "run/model_card.md").is_file()  # the last file that a run writes


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGINT, 130)])
def test_asked_to_stop(reference, tmp_path, signum, code):
    """The step in hand is finished and kept, the exit code says why, and the same command goes on."""
    where = ("fewshot.models.base:MetaLearner.training_step", 8)
    process = fork("train.py", *arguments(tmp_path), output=tmp_path / "out", signal_in=where, signum=signum)
    assert process.wait() == code, (tmp_path / "out").read_text()
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 8
    assert "Traceback" not in (tmp_path / "out").read_text()
    assert not (tmp_path / "run/results.json").exists()
    stopped, command = (tmp_path / "out").read_text().splitlines()[-2:]
    assert stopped == f"stopped: {signum.name}; go on with"
    # Flags may stand elsewhere, and Hydra's quotes around a path say the same.
    words = [word.replace("'", "") for word in shlex.split(command)]
    assert words[:2] == ["python", "train.py"]
    assert sorted(words[2:]) == sorted(word.replace("'", "") for word in arguments(tmp_path))
    require_same(finish(tmp_path), reference)


def test_a_truncated_checkpoint_is_passed_over_for_the_one_before_it(reference, tmp_path):
    kill(tmp_path)
    last = tmp_path / "run/checkpoints/last.ckpt"
    whole = last.read_bytes()
    last.unlink()  # the one before it may be another name of the same file
    last.write_bytes(whole[:-500])
    require_same(finish(tmp_path), reference)
    said = (tmp_path / "out").read_text()
    assert "last.ckpt is no whole checkpoint of plain data" in said
    assert "previous.ckpt, outer step" in said


def test_a_complete_run_does_nothing(reference, complete):
    before = {path: path.stat().st_mtime_ns for path in (complete / "run/checkpoints").iterdir()}
    results = (complete / "run/results.json").read_bytes()
    (complete / "out").unlink()
    require_same(finish(complete, "resume=true"), reference)
    assert "This run is complete" in (complete / "out").read_text()
    assert {path: path.stat().st_mtime_ns for path in (complete / "run/checkpoints").iterdir()} == before
    assert (complete / "run/results.json").read_bytes() == results


def test_more_steps_prolong_a_run_as_if_they_had_been_asked_for_at_once(tmp_path):
    """With a constant rate; validation falls on the same steps."""
    constant = ("model.scheduler=null", "trainer.val_check_interval=3")
    for name in ("long", "short"):
        (tmp_path / name).mkdir()
    expected = finish(tmp_path / "long", *constant, "trainer.max_steps=12")
    finish(tmp_path / "short", *constant, "trainer.max_steps=6")
    prolonged = finish(tmp_path / "short", *constant, "trainer.max_steps=12", "resume=true")
    for part in ("last", "best", "results", "test_tasks.csv"):
        assert prolonged[part] == expected[part], part


def test_a_prolonged_schedule_goes_on_from_where_the_longer_one_would_be(tmp_path):
    finish(tmp_path, "trainer.max_steps=6")
    rates = dict(finish(tmp_path, "trainer.max_steps=12", "resume=true")["curves"]["train/lr-Adam"])
    for step in range(6, 12):
        assert rates[step] == pytest.approx(0.001 * (1 + math.cos(math.pi * step / 12)) / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["seed=1"], "holds a run with another seed"),
        (["model.inner.lr=0.1"], "holds a run with another model.inner.lr; give the same config, or choose another folder"),
        (["model.inner.lr=0.1", "resume=true"], "holds a run with another model.inner.lr; give the same config"),
        (["data.ways=4"], "holds a run with another data.ways"),
        (["trainer.max_steps=30"], "holds a run with another trainer.max_steps; set resume=true to continue it all the same"),
        (["trainer.max_steps=3", "resume=true"], "trainer.max_steps=3 but the run in"),
    ],
)
def test_another_config_is_not_mixed_into_a_run(complete, more, message):
    before = files_of(complete / "run")
    done = main("train.py", *arguments(complete), *more)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert files_of(complete / "run") == before


def files_of(folder):
    """What every file holds."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_other_images_behind_the_data_set_are_refused(complete, monkeypatch):
    """Such as files replaced between a kill and the same command."""
    before, images = files_of(complete / "run/checkpoints"), Toy.images
    monkeypatch.setattr(Toy, "images", lambda toy, split: (255 - part for part in images(toy, split)))
    done = main("train.py", *arguments(complete, "trainer.max_steps=40", "resume=true", f"paths.cache_dir={complete / 'new'}"))
    assert done.code == 2
    assert "last.ckpt was trained with other images: those of the train split of toy have been replaced since" in done.err
    assert done.err.count("\n") == 1
    assert files_of(complete / "run/checkpoints") == before


def test_two_runs_in_one_folder(tmp_path):
    first = fork("train.py", *arguments(tmp_path, "trainer.max_steps=100000"), output=tmp_path / "out")
    wait_for((tmp_path / "run/checkpoints/last.ckpt").exists)
    second = main("train.py", *arguments(tmp_path, "trainer.max_steps=100000"))
    assert second.code == 2
    assert (
        second.err
        == f"error: hydra.run.dir={tmp_path / 'run'} is in use by a run that is going on; wait for it or choose another\n"
    )
    first.send(signal.SIGTERM)
    assert first.wait() == 143


def test_without_a_seed_the_drawn_one_is_kept(tmp_path):
    kill(tmp_path, "seed=null")
    seed = yaml.safe_load((tmp_path / "run/config.yaml").read_text())["seed"]
    assert finish(tmp_path, "seed=null")["results"]["protocol"]["seed"] == seed


def test_a_run_that_was_moved_goes_on(reference, tmp_path):
    kill(tmp_path)
    moved = tmp_path / "moved"
    moved.mkdir()
    (tmp_path / "run").rename(moved / "run")
    require_same(finish(moved), reference)
