"""Runs that something cuts short: results tell what was done, and the same command finds nothing left to do."""

import json
import signal
from types import SimpleNamespace

import pytest

from fewshot.errors import UserError
from fewshot.runtime import provenance, source_history
from fewshot.runtime.limits import steps_left
from fewshot.runtime.train import train
from tests.entry import QUICK
from tests.forked import fork
from tests.runtime.sameness import what_a_run_left

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]

EARLY = "{_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/acc, mode: max, patience: 1, min_delta: 1}"
EMA = "{_target_: lightning.pytorch.callbacks.EMAWeightAveraging, decay: 0.9}"


def results_of(folder):
    return json.loads((folder / "run/results.json").read_text())


@pytest.mark.parametrize(
    ("overrides", "cut_short", "done"),
    [
        (["+trainer.limit_train_batches=4"], ["4 of 6 outer steps"], (4, 6, 6)),
        (["+trainer.max_time=00:00:00:00"], ["0 of 6 outer steps"], (0, 0, 6)),
        (["trainer.max_epochs=0"], ["0 of 6 outer steps"], (0, 0, 6)),
        (["+trainer.limit_val_batches=1"], ["4 of 6 val tasks"], (6, 4, 6)),
        (["+trainer.limit_val_batches=0"], ["0 of 6 val tasks"], (6, 0, 6)),
        (["+trainer.limit_test_batches=1"], ["4 of 6 test tasks"], (6, 6, 4)),
        ([f"+callbacks.early={EARLY}", "trainer.val_check_interval=2"], ["4 of 6 outer steps"], (4, 6, 6)),
        ([], [], (6, 6, 6)),
    ],
    ids=["train-batches", "time", "epochs", "val-batches", "no-val", "test-batches", "early-stopping", "nothing"],
)
def test_results_tell_what_was_done(quick_config, tmp_path, overrides, cut_short, done):
    train(quick_config(tmp_path, *overrides))
    results = results_of(tmp_path)
    if done[1] == 0:
        cut_short = list(dict.fromkeys([*cut_short, "0 of 6 val tasks"]))
    assert results["cut_short"] == cut_short
    assert results["status"] == ("cut short" if cut_short else "completed")
    protocol = results["protocol"]
    assert (protocol["train"]["steps"], protocol["val_tasks"], protocol["test_tasks"]) == done
    assert results["cost"]["train_tasks"] == 4 * done[0]
    assert results["test"]["tasks"] == done[2]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["+trainer.limit_test_batches=0"],
            r"trainer\.limit_test_batches=0 leaves none of 2 meta-batches to measure; raise it, or",
        ),
        (["+trainer.limit_test_batches=0.2"], r"trainer\.limit_test_batches=0\.2 leaves none of 2 meta-batches"),
        (["+trainer.limit_val_batches=0.1"], r"trainer\.limit_val_batches=0\.1 leaves none of 2 meta-batches"),
        (["+trainer.limit_val_batches=0", "test=false"], r"trainer\.limit_val_batches=0 leaves none of 2 meta-batches"),
        (["trainer.max_epochs=2"], r"trainer\.max_epochs=2 but one epoch is the whole run"),
        (
            ["+callbacks.swa={_target_: lightning.pytorch.callbacks.StochasticWeightAveraging, swa_lrs: 0.1}"],
            r"callbacks\.swa: StochasticWeightAveraging averages once an epoch, and a run is one epoch; take EMA",
        ),
        (
            ["+callbacks.unfreeze={_target_: lightning.pytorch.callbacks.BackboneFinetuning}"],
            r"callbacks\.unfreeze: BackboneFinetuning freezes and unfreezes by epochs",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused(quick_config, tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        train(quick_config(tmp_path, *overrides))
    assert not (tmp_path / "run/checkpoints").exists()


def test_a_limit_holds_over_an_interruption():
    left = lambda limit, done: steps_left(SimpleNamespace(limit_train_batches=limit, max_steps=100), done)  # noqa: E731
    assert [left(1.0, 30), left(0.5, 30), left(40, 30), left(40, 50)] == [70, 20, 10, 0]


def arguments(folder, *more):
    return [
        *QUICK, "trainer.max_steps=12", "trainer.val_check_interval=2", "callbacks.progress.refresh_rate=0",
        f"hydra.run.dir={folder / 'run'}", f"paths.cache_dir={folder / 'cache'}", *more,
    ]  # fmt: skip


def finish(folder, *more):
    assert fork("train.py", *arguments(folder, *more), output=folder / "out").wait() == 0, (folder / "out").read_text()
    return what_a_run_left(folder / "run")


def kill(folder, where, call, *more):
    process = fork("train.py", *arguments(folder, *more), output=folder / "out", signal_in=(where, call))
    assert process.wait() == -signal.SIGKILL, (folder / "out").read_text()


def test_early_stopping_has_stopped_after_a_kill_too(tmp_path):
    """In the middle of the test, when training is over; what would change the end lets it go on."""
    early = f"+callbacks.early={EARLY}"
    for name in ("undisturbed", "killed"):
        (tmp_path / name).mkdir()
    expected = finish(tmp_path / "undisturbed", early)
    assert expected["results"]["protocol"]["train"]["steps"] == 4
    kill(tmp_path / "killed", "fewshot.models.base:MetaLearner.test_step", 2, early)
    assert finish(tmp_path / "killed", early) == expected
    assert finish(tmp_path / "killed", early) == expected
    assert "This run is complete" in (tmp_path / "killed/out").read_text()
    longer = finish(tmp_path / "killed", early.replace("patience: 1", "patience: 2"), "resume=true")
    assert longer["results"]["protocol"]["train"]["steps"] > 4


def test_an_average_of_weights_goes_on_to_the_bit(tmp_path):
    """The average is what is validated, tested and kept; the weights that training goes on with lie beside it."""
    ema = f"+callbacks.ema={EMA}"
    for name in ("undisturbed", "killed", "plain"):
        (tmp_path / name).mkdir()
    expected = finish(tmp_path / "undisturbed", ema)
    kill(tmp_path / "killed", "fewshot.models.base:MetaLearner.validation_step", 6, ema)
    assert finish(tmp_path / "killed", ema) == expected
    assert finish(tmp_path / "plain")["last"]["state_dict"] != expected["last"]["state_dict"]


def test_a_source_that_was_edited_meanwhile_is_said(quick_config, tmp_path, monkeypatch, caplog):
    train(quick_config(tmp_path, "trainer.max_steps=2"))
    before = results_of(tmp_path)["provenance"]
    assert before["earlier_sources"] == []
    today = {"git_commit": "c0ffee", "git_dirty": True, "source_sha256": "other"}
    for module in (provenance, source_history):
        monkeypatch.setattr(module, "source_version", lambda: today)
    train(quick_config(tmp_path, "trainer.max_steps=4", "resume=true"))
    after = results_of(tmp_path)["provenance"]
    assert after["git_commit"] == "c0ffee"
    assert after["earlier_sources"] == [{key: before[key] for key in today}]
    (line,) = [record.message for record in caplog.records if "source code" in record.message]
    assert f"({before['git_commit'][:10]}" in line
    assert "c0ffee, edited now)" in line
