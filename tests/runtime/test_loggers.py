"""Loggers beside TensorBoard, for real and without a network."""

import json
import sqlite3
import struct
from pathlib import Path

import pytest

from fewshot.errors import UserError
from fewshot.runtime import build
from fewshot.runtime.train import train
from tests.entry import TINY, main


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choice", "files"),
    [
        ("csv", {"metrics.csv"}),
        ("tensorboard", {"events"}),
        ("default", {"metrics.csv", "events"}),
        ("[csv,tensorboard]", {"metrics.csv", "events"}),
    ],
)
def test_each_choice_leaves_its_files(tmp_path, choice, files):
    done = main("train.py", *TINY, f"logger={choice}", f"hydra.run.dir={tmp_path / 'run'}", f"paths.cache_dir={tmp_path}",
                "trainer.max_steps=1", "test=false", "callbacks=default")  # fmt: skip
    assert done.code == 0, done.err
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert {name.split(".out")[0] for name in left} & {"metrics.csv", "events"} == files


def test_a_logger_that_is_not_installed_is_refused_in_one_line(compose_config, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="logger=wandb needs a package that is not installed; make extras, or pip"):
        train(compose_config(tmp_path, "logger=[csv,wandb]"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")
def test_mlflow_in_a_database_of_the_run(tmp_path):
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    run = tmp_path / "run"
    done = main("train.py", *TINY, "logger=[csv,mlflow]", "callbacks=default", f"hydra.run.dir={run}",
                f"paths.cache_dir={tmp_path}")  # fmt: skip
    assert done.code == 0, done.err
    results = json.loads((run / "results.json").read_text())["metrics"]
    with sqlite3.connect(run / "mlflow.db") as database:
        metrics = dict(database.execute("select key, value from latest_metrics").fetchall())
        params = dict(database.execute("select key, value from params").fetchall())
        curve = database.execute("select step from metrics where key = 'train/loss' order by step").fetchall()
    assert metrics["test/acc"] == pytest.approx(results["test/acc"])
    assert params["model.inner.lr"] == "0.4"
    assert [step for (step,) in curve] == list(range(6))
    assert {path.parent.name for path in (run / "mlflow").rglob("*.png")} >= {"tasks", "worst_tasks", "adaptation"}


@pytest.mark.slow
def test_wandb_whose_server_does_not_answer_takes_one_line(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="the extra wandb is not installed")
    wandb.teardown()  # its settings are read once in a process
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    done = main("train.py", *TINY, "logger=[csv,wandb]", f"hydra.run.dir={tmp_path / 'run'}", f"paths.cache_dir={tmp_path}")
    wandb.teardown()
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "WANDB_BASE_URL=http://127.0.0.1:9 does not answer" in done.err


@pytest.mark.slow
def test_wandb_offline(tmp_path):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    run = tmp_path / "run"
    done = main("train.py", *TINY, "logger=[csv,wandb]", "logger.wandb.offline=true", "callbacks=default",
                f"hydra.run.dir={run}", f"paths.cache_dir={tmp_path}")  # fmt: skip
    assert done.code == 0, done.err
    (record,) = (run / "wandb").glob("offline-run-*/run-*.wandb")
    history = logged(record)
    results = json.loads((run / "results.json").read_text())["metrics"]
    assert [row["train/loss"] for row in history if "train/loss" in row]
    assert [row["test/acc"] for row in history if "test/acc" in row] == [pytest.approx(results["test/acc"])]
    assert any(row.get("val/tasks/_type") == "images/separated" for row in history)


def logged(file: Path):
    """What an offline run's file holds of its history. It is a log of LevelDB's format after a header of 7 bytes.

    Blocks of 32 KiB hold pieces with a checksum (4 bytes), length (2) and type: 1 whole, 2 first, 3 middle, 4 last.
    """
    from wandb.proto import wandb_internal_pb2

    content, position, record, rows = file.read_bytes(), 7, b"", []
    while position < len(content):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        record = (b"" if kind in (1, 2) else record) + content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            message = wandb_internal_pb2.Record.FromString(record)
            items = message.history.item if message.WhichOneof("record_type") == "history" else []
            rows += [{"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}]
    return rows
