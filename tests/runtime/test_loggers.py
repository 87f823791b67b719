"""Loggers beside TensorBoard: what reaches them, and for real, without a network."""

import json
import math
import sqlite3
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning.pytorch.loggers import MLFlowLogger, WandbLogger
from matplotlib.figure import Figure

from fewshot.errors import UserError
from fewshot.runtime import build_logger
from fewshot.runtime.plots.hparams import show_config, show_results
from fewshot.runtime.plots.loggers import show_figure
from fewshot.runtime.train import train
from tests.entry import QUICK, main


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choice", "files"),
    [
        ("csv", {"metrics.csv"}),
        ("tensorboard", {"events"}),
        ("[csv,tensorboard]", {"metrics.csv", "events"}),
    ],
)
def test_each_choice_leaves_its_files(tmp_path, choice, files):
    done = main("train.py", *QUICK, f"logger={choice}", f"hydra.run.dir={tmp_path / 'run'}", f"paths.cache_dir={tmp_path}",
                "trainer.max_steps=1", "test=false", "callbacks=default")  # fmt: skip
    assert done.code == 0, done.err
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert {name.split(".out")[0] for name in left} & {"metrics.csv", "events"} == files


class Wandb(WandbLogger):
    """Keeps what it is given."""

    def __init__(self):
        self.given, self.experiment = {}, SimpleNamespace(finish=lambda: self.given.update(finished=True))

    experiment = None

    def log_hyperparams(self, params):
        self.given |= params

    def log_metrics(self, metrics, step):
        self.given |= {name: (value, step) for name, value in metrics.items()}

    def log_image(self, key, images, step):
        self.given[key] = (images[0].size, step)


class MLFlow(MLFlowLogger):
    """Keeps what it is given."""

    def __init__(self):
        self.given, self.experiment = {}, SimpleNamespace(log_image=self.log_image)

    experiment, run_id = None, "this"
    log_hyperparams, log_metrics = Wandb.log_hyperparams, Wandb.log_metrics

    def log_image(self, run_id, image, file):
        self.given[file] = (image.size, run_id)


def test_config_pictures_and_figures_reach_the_others(quick_config, tmp_path):
    wandb, mlflow = Wandb(), MLFlow()
    trainer = SimpleNamespace(loggers=[wandb, mlflow], is_global_zero=True, global_step=6)
    show_config(trainer, quick_config(tmp_path), 0)
    show_figure(trainer, "val/tasks", Figure(figsize=(2, 1)), 5)
    show_results(trainer, {"test/acc": 0.5, "test/loss": math.nan}, {"objective": {"monitor": "acc"}})
    for logger in (wandb, mlflow):
        assert (logger.given["model.inner.lr"], logger.given["data.ways"]) == (0.4, 3)
        assert {name: value for name, value in logger.given.items() if name.startswith("when")} == {
            "when trained/test/acc": (0.5, 6)
        }
    assert wandb.given["val/tasks"] == ((240, 120), 5)
    assert mlflow.given["val/tasks/5.png"] == ((240, 120), "this")
    assert wandb.given["finished"]


def test_a_logger_that_is_not_installed_is_refused_in_one_line(compose_config, tmp_path, monkeypatch):
    monkeypatch.setattr(build_logger, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="logger=wandb needs a package that is not installed; make extras, or pip"):
        train(compose_config(tmp_path, "logger=[csv,wandb]"))


@pytest.mark.proof
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")
def test_mlflow_in_a_database_of_the_run(tmp_path):
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    run = tmp_path / "run"
    done = main("train.py", *QUICK, "logger=[csv,mlflow]", "callbacks=default", f"hydra.run.dir={run}",
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
    done = main("train.py", *QUICK, "logger=[csv,wandb]", f"hydra.run.dir={tmp_path / 'run'}", f"paths.cache_dir={tmp_path}")
    wandb.teardown()
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "WANDB_BASE_URL=http://127.0.0.1:9 does not answer" in done.err


@pytest.mark.proof
def test_wandb_offline(tmp_path):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    run = tmp_path / "run"
    done = main("train.py", *QUICK, "logger=[csv,wandb]", "logger.wandb.offline=true", "callbacks=default",
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
