"""What a user meets at the command line: help at once, one line for a mistake, a clean console."""

import errno
import os
import re
import socket

import pytest
import yaml

from fewshot.errors import UserError
from fewshot.runtime import cli
from tests.entry import CONFIG_DIR, ROOT, TINY, command, main


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
        ("data=qqqqqq", "data=qqqqqq is unknown; choose one of: glyphs, miniimagenet, omniglot"),
        ("model=mmal", "model=mmal is unknown; did you mean 'maml'?"),
        ("model/backbone=conv5", "model/backbone=conv5 is unknown; did you mean 'conv4'?"),
        ("model.inner.ls=1", "model.inner.ls is no key of this config; did you mean 'model.inner.lr'?"),
        ("data.way=5", "data.way is no key of this config; did you mean 'data.ways'?"),
        ("trainer.max_step=5", "trainer.max_step is no key of this config; did you mean 'trainer.max_steps'?"),
        ("modle=maml", "modle is no key of this config; did you mean 'model'?"),
        ("data.ways=[", "'data.ways=[' cannot be read as KEY=VALUE"),
        ("data.ways=five", "data.ways=five must be a whole number of at least 1"),
        ("data.source.partition=vinyal", "data.source.partition is no key"),
        ("trainer.accelerator=tpus", "trainer: You selected an invalid accelerator name: `accelerator='tpus'`"),
        ("trainer.precision=8", "trainer.precision=8 is not supported; choose one of: 32-true, bf16-mixed"),
    ],
)
def test_mistakes_in_a_config_take_one_line(tmp_path, override, message):
    done = main("train.py", f"hydra.run.dir={tmp_path / 'run'}", f"paths.cache_dir={tmp_path / 'cache'}", override)
    assert message in mistake(done)
    assert not (tmp_path / "cache").exists()


def test_a_mistake_costs_a_moment_and_no_traceback(tmp_path):
    """In a process of its own: the config is composed and refused before torch is imported."""
    done = command("train.py", "experiment=omniglott_5w1s", f"hydra.run.dir={tmp_path}", PYTHONPROFILEIMPORTTIME="1")
    lines = [line for line in done.err.splitlines() if not line.startswith("import time:")]
    assert done.code == 2
    assert lines == ["error: experiment=omniglott_5w1s is unknown; did you mean 'omniglot_5w1s'?"]
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
    out = command("train.py", "--help").out
    for text in ("experiment: glyphs_5w1s", "miniimagenet_5w1s", "meta_batch_size: 8", "python eval.py run="):
        assert text in out


@pytest.mark.slow
def test_the_console_holds_nothing_of_other_libraries(tmp_path):
    """A whole run as a newcomer sees it: every line is ours."""
    done = command(
        "train.py", *TINY, f"hydra.run.dir={tmp_path / 'run'}", f"paths.cache_dir={tmp_path / 'cache'}", COLUMNS="120"
    )
    assert done.code == 0
    assert done.err == ""
    ours = (
        "Preparing ", "MAML · ", "Results: ", "Inner loop: ", "Memory: ", "Training ", "Testing ", "┌", "│", "└", " " * 30,
        "everything in ", "Starting ", "Step ", "Validation after ", "Checkpoint after ",
    )  # fmt: skip
    assert [line for line in done.out.splitlines() if not line.startswith(ours)] == []
    again = command("eval.py", CONFIG_DIR, f"run={tmp_path / 'run'}", f"hydra.run.dir={tmp_path / 'eval'}", COLUMNS="120")
    assert again.err == ""
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
    done = main("train.py", *TINY, *(f"{name}={folder}" for name, folder in folders.items()))
    message = mistake(done)
    assert str(tmp_path / "file") in message
    assert f"{key}=FOLDER" in message


def test_a_crash_of_ours_keeps_its_traceback():
    assert cli.explain(RuntimeError("a bug"), "train") is None


def test_a_users_mistake_is_found_below_what_wraps_it():
    wrapped = RuntimeError("while instantiating")
    wrapped.__cause__ = UserError("data.ways=0 must be positive")
    assert cli.explain(wrapped, "train") == "data.ways=0 must be positive"


def test_a_full_disk_is_no_crash():
    message = cli.explain(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/logs/last.ckpt"), "train")
    remedy = "free it or choose another with hydra.run.dir=FOLDER"
    assert message == f"/logs/last.ckpt cannot be written (No space left on device); {remedy}"


def test_python_train_py_works_from_any_folder(tmp_path):
    done = command("train.py", "--cfg", "job", "--resolve", cwd=tmp_path)
    assert done.code == 0
    assert f"root_dir: {ROOT}" in done.out


def test_runs_and_evaluations_have_folders_of_their_own(tmp_path):
    """Where the README says that they are: logs/train/runs and logs/eval/runs."""

    def folder(script, *arguments):
        shown = yaml.safe_load(main(script, *arguments, "--cfg", "hydra").out)["hydra"]
        return shown["run"]["dir"].split("/runs/")[0].replace("${hydra:job.name}", shown["job"]["name"])

    assert folder("train.py") == "${paths.root_dir}/logs/train"
    assert main("train.py", *TINY, f"hydra.run.dir={tmp_path / 'run'}", f"paths.cache_dir={tmp_path / 'cache'}").code == 0
    assert folder("eval.py", f"run={tmp_path / 'run'}") == "${paths.root_dir}/logs/eval"
