"""What a user meets at the command line: help at once, one line for a mistake, a clean console."""

import errno
import io
import os
import re
import socket
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler

import pytest
import yaml

from fewshot.errors import UserError
from fewshot.runtime import cli
from tests.entry import CONFIG_DIR, QUICK, ROOT, command, main


def mistake(done):
    """The one line that a mistake leaves on stderr."""
    assert done.code == 2, done.err
    assert done.err.startswith("error: ")
    assert done.err.endswith("\n")
    assert done.err.count("\n") == 1, done.err
    return done.err.removeprefix("error: ").rstrip()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("experiment=omniglot_5w1", "experiment=omniglot_5w1 is unknown; did you mean 'omniglot_5w1s'?"),
        ("data=qqqqqq", "data=qqqqqq is unknown; choose one of: aircraft, banking77, "),
        ("model=mmal", "model=mmal is unknown; did you mean 'maml'?"),
        ("model/backbone=conv5", "model/backbone=conv5 is unknown; did you mean 'conv4'?"),
        ("model.inner.ls=1", "model.inner.ls is no key of this config; did you mean 'model.inner.lr'?"),
        ("data.way=5", "data.way is no key of this config; did you mean 'data.ways'?"),
        ("trainer.max_step=5", "trainer.max_step is no key of this config; did you mean 'trainer.max_steps'?"),
        ("modle=maml", "modle is no key of this config; did you mean 'model'?"),
        ("hydra.sweeper.n_trials=5", ", of which the nearest are: "),
        ("data=sinusoid data/split=kfold", "data/split divides rows, and these tasks are computed"),
        ("data=movielens data.eval.replacement=false", "data.eval.replacement is for tasks of classes: users are tested once"),
        ("data.ways=[", "'data.ways=[' cannot be read as KEY=VALUE"),
        ("data.ways=five", "data.ways=five must be a whole number or a list, each a whole number of at least 1"),
        ("data.source.partition=vinyal", "data.source.partition is no key"),
        ("trainer.accelerator=tpus", "trainer: You selected an invalid accelerator name: `accelerator='tpus'`"),
        ("model.inner.lr=abc", "model.inner.lr=abc must be a number"),
        ("data.shots=0", "data.shots=0 must be a whole number of at least 1"),
        ("model.gradient_clip={val:1}", "model.gradient_clip={val: 1} must be {val: NUMBER, algorithm: value or norm}"),
        ("~model.inner.lr", "model.inner.lr is missing, and fewshot.inner.unrolled.Unrolled needs it"),
        ("trainer.inference_mode=true", "trainer.inference_mode=true would leave validation without"),
        ("+trainer.gradient_clip_val=1", "trainer.gradient_clip_val does nothing here; use model.gradient_clip"),
        ("+trainer.accumulate_grad_batches=2", "trainer.accumulate_grad_batches does nothing here; use data.meta_batch_size"),
        ("logger=null", "logger=null chooses nothing; choose one of: csv,"),
        ("logger=[]", "logger is missing, and every run needs it; choose one of: csv,"),
        ("callbacks=null", "callbacks=null chooses nothing; choose one of: default,"),
        ("experiment=null", "experiment=null chooses nothing; take it away with ~experiment"),
        ("data.eval.shots=1,2", "data.eval.shots=1,2 has several values: -m runs each of them"),
        ("--seed=5", "--seed=5 is no flag; keys are set by KEY=VALUE, as in seed=VALUE"),
        ("trainer.precision=8", "trainer.precision=8 is not supported; choose one of: 32-true, bf16-mixed"),
    ],
)
def test_mistakes_in_a_config_take_one_line(tmp_path, override, message):
    done = main("train.py", f"hydra.run.dir={tmp_path / 'run'}", f"paths.cache_dir={tmp_path / 'cache'}", *override.split(" "))
    assert message in mistake(done)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("experiment=omniglott_5w1s", "experiment=omniglott_5w1s is unknown; did you mean 'omniglot_5w1s'?"),
        ("model.inner.lr=abc", "model.inner.lr=abc must be a number"),
    ],
)
def test_a_mistake_costs_a_moment_and_no_traceback(tmp_path, override, message):
    """In a process of its own: the config is composed and refused before torch is imported."""
    done = command("train.py", override, f"hydra.run.dir={tmp_path}", PYTHONPROFILEIMPORTTIME="1")
    lines = [line for line in done.err.splitlines() if not line.startswith("import time:")]
    assert done.code == 2
    assert lines == [f"error: {message}"]
    assert not {"torch", "lightning", "matplotlib", "numpy"} & imported(done.err)


def imported(report):
    return {match[1] for match in re.finditer(r"\|\s+(\w+)$", report, re.MULTILINE)}


@pytest.mark.parametrize("script", ["train.py", "eval.py"])
def test_help_imports_nothing_heavy(script):
    done = command(script, "--help", PYTHONPROFILEIMPORTTIME="1")
    assert done.code == 0
    assert not {"torch", "lightning", "matplotlib", "numpy", "scipy", "learn2learn"} & imported(done.err)
    assert "hydra" in imported(done.err)


def test_help_names_choices_keys_and_commands():
    """Of the config that the other arguments make, each with what its file says of it."""
    out = main("train.py", "--help", "model=protonet").out
    for line in (
        r"python eval.py run=\S+ data.shots=5",
        r"experiment=glyphs_5w1s",
        r"  miniimagenet_5w1s +mini-ImageNet 5-way 1-shot as published .*",
        r"model=protonet",
        r"  anil +ANIL \(Raghu et al. 2020\): the head alone is adapted; .*",
        r"data.meta_batch_size=8 +tasks in one outer step.*",
        r"model.optimizer.lr=0.001 +outer learning rate at the start",
    ):
        assert re.search(f"^{line}$", out, re.MULTILINE), line
    assert "_classifier" not in out
    assert "_episodes" not in out
    whole = {word for file in (ROOT / "configs").rglob("*.yaml") for word in re.findall(r"[\w-]+", file.read_text())}
    assert {word for word in re.findall(r"^ {28,}([a-z][\w-]*)", out, re.MULTILINE) if word not in whole} == set()


def test_without_the_checkout_the_remedy_is_one_line(tmp_path, monkeypatch):
    """As from a wheel, which has no configs."""
    monkeypatch.setattr(cli, "CONFIGS", tmp_path / "configs")
    assert mistake(main("train.py")).endswith("fewshot runs from its checkout; clone it, make setup, and use its .venv")


def test_a_flag_may_stand_anywhere():
    shown = main("train.py", "seed=1", "--cfg", "job", "test=false", "--resolve")
    assert shown.code == 0
    assert (yaml.safe_load(shown.out)["seed"], yaml.safe_load(shown.out)["test"]) == (1, False)


def test_a_console_may_have_any_encoding(monkeypatch):
    """What is printed has signs that ASCII lacks; a run must not die of them."""
    console = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", console)
    cli.tolerate_any_console()
    print("│ 5-way · 91.8 ± 0.6 %")
    console.flush()
    assert console.buffer.getvalue() == b"? 5-way ? 91.8 ? 0.6 %\n"


def test_an_experiment_of_other_data_is_named(tmp_path):
    folders = [
        f"paths.data_dir={tmp_path / 'none'}",
        f"hydra.run.dir={tmp_path / 'run'}",
        f"paths.cache_dir={tmp_path / 'cache'}",
    ]
    done = main("train.py", "data=quickdraw", *folders)
    line = "experiment=glyphs_5w1s was made for data=glyphs: its network and budget meet quickdraw; made for it: experiment="
    assert done.out.startswith(line + "quickdraw_5w1s\n")
    assert "was made for" not in main("train.py", "experiment=quickdraw_5w1s", *folders).out


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folders = ["paths.data_dir=~/data", "hydra.run.dir=~/run", "paths.cache_dir=cache"]
    done = main("train.py", "experiment=quickdraw_5w1s", "trainer=cpu", *folders)
    assert done.code == 2
    assert f"{tmp_path / 'data'}" in done.err
    assert (tmp_path / "run").is_dir()
    assert not (tmp_path / "~").exists()


def test_outside_the_environment_the_remedy_is_one_line(tmp_path):
    for script in ("train.py", "eval.py"):
        done = subprocess.run(
            [sys.executable, "-S", "-E", str(ROOT / script)], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert done.returncode == 2
        assert done.stderr == f"error: No module named 'fewshot'; run `make setup`, then `.venv/bin/python {script}`\n"


@pytest.mark.slow
def test_the_console_holds_nothing_of_other_libraries(tmp_path):
    """A whole run and an evaluation as a newcomer sees them: every line is ours. The folder may have any name."""
    run = tmp_path / "a=b,(c) 'd' é"
    done = command("train.py", *QUICK, f"hydra.run.dir={run}", f"paths.cache_dir={tmp_path / 'cache'}", COLUMNS="120")
    assert (done.code, done.err) == (0, "")
    ours = (
        "Preparing ", "MAML · ", "Results: ", "Inner loop: ", "Memory: ", "Training ", "Testing ", "┌", "│", "└", " " * 30,
        "everything in ", "Starting ", "Step ", "Validation after ", "Checkpoint after ",
    )  # fmt: skip
    assert [line for line in done.out.splitlines() if not line.startswith(ours)] == []
    again = main("eval.py", CONFIG_DIR, f"run={run}", f"hydra.run.dir={tmp_path / 'eval'}")
    assert (again.code, again.err) == (0, "")
    ours = ("Evaluating ", *ours)
    assert [line for line in again.out.splitlines() if not line.startswith(ours)] == []


@pytest.mark.parametrize("experiment", ["omniglot_5w1s", "miniimagenet_5w1s"])
def test_no_network(tmp_path, monkeypatch, experiment):
    def refuse(*_, **__):
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    folder = tmp_path / "data"
    done = main("train.py", f"experiment={experiment}", f"paths.data_dir={folder}", f"hydra.run.dir={tmp_path / 'run'}",
                f"paths.cache_dir={tmp_path / 'cache'}", "trainer=cpu")  # fmt: skip
    message = mistake(done)
    assert "Network is unreachable" in message
    assert f"paths.data_dir={folder}" in message or str(folder) in message
    assert "paths.data_dir=FOLDER" in message
    assert [path for path in folder.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("key", ["paths.cache_dir", "hydra.run.dir"])
def test_a_folder_that_cannot_be_written(tmp_path, key):
    """Below a file no folder can be made, not even by root."""
    (tmp_path / "file").write_text("")
    folders = {"paths.cache_dir": tmp_path / "cache", "hydra.run.dir": tmp_path / "run"} | {key: tmp_path / "file/folder"}
    done = main("train.py", *QUICK, *(f"{name}={folder}" for name, folder in folders.items()))
    message = mistake(done)
    assert str(tmp_path / "file") in message
    assert f"{key}=FOLDER" in message


def test_a_crash_of_ours_keeps_its_traceback():
    assert cli.explain(RuntimeError("a bug"), "train") is None


def test_a_users_mistake_is_found_below_what_wraps_it():
    wrapped = RuntimeError("while instantiating")
    wrapped.__cause__ = UserError("data.ways=0 must be positive")
    assert cli.explain(wrapped, "train") == "data.ways=0 must be positive"


def test_a_worker_that_is_killed_while_it_hands_a_tensor_over(monkeypatch):
    """The connection breaks off, and no loader finds out who was killed."""
    import torch  # with what makes tensors travel
    from torch.multiprocessing import reductions

    def broken(*_):
        raise ConnectionResetError(104, "Connection reset by peer")

    handed = ForkingPickler.dumps(torch.ones(2))
    monkeypatch.setattr("multiprocessing.resource_sharer._ResourceSharer.get_connection", broken)
    assert reductions.__file__.endswith(cli.HANDING_OVER)
    with pytest.raises(ConnectionResetError) as error:
        ForkingPickler.loads(handed)
    assert cli.explain(error.value, "train").startswith("data.num_workers: DataLoader worker was killed")
    assert cli.explain(ConnectionResetError(104, "of a file server"), "train") is None


def test_a_full_disk_is_no_crash():
    message = cli.explain(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/logs/last.ckpt"), "train")
    remedy = "free it or choose another with hydra.run.dir=FOLDER"
    assert message == f"/logs/last.ckpt cannot be written (No space left on device); {remedy}"


def test_python_train_py_works_from_any_folder(tmp_path):
    done = command("train.py", "--cfg", "job", "--resolve", cwd=tmp_path)
    assert done.code == 0
    assert f"root_dir: {ROOT}" in done.out
