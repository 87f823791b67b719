"""The losses that every experiment and every model began with: a change that should change nothing must reproduce them.

Of the experiments, on a stand-in for their data, the first losses to the bit, on the CPU that they were written on: 5 in each
test run, 20 in the proofs. On any other CPU, the first 5 in double precision. Of the models, in double precision, the losses of
three outer steps and of a test, on any machine.
``make goldens`` writes them anew; say in the commit why they changed.
"""

import csv
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fewshot.data.datamodule import EpisodicDataModule
from fewshot.runtime.build import _model_class, build_model
from fewshot.runtime.config_groups import choices
from fewshot.runtime.provenance import processor
from fewshot.runtime.train import train
from fewshot.tasks.batch import TaskBatch, TaskRows
from fewshot.tasks.streams import stream_key, uniforms
from tests.experiments import IMAGES, stand_in
from tests.models.model_tester import optimizer_of, outer_step

FOLDER = Path(__file__).parent / "goldens"
CONFIGS = Path(__file__).parents[1] / "configs"
SAME_RECIPE = {f"{data}_5w{shots}s": f"miniimagenet_5w{shots}s" for data in ("cifar_fs", "tieredimagenet") for shots in (1, 5)}
SAME_RECIPE |= dict.fromkeys(("aircraft_5w5s", "dtd_5w5s", "fungi_5w5s"), "flowers102_5w5s")
"""Experiments that differ from another one in their data alone, for which the stand-in stands."""
EXPERIMENTS = sorted({path.stem for path in CONFIGS.glob("experiment/*.yaml")} - SAME_RECIPE.keys())
MODELS = [name for name in choices("model") if "images" in _model_class(name).inputs]
PRECISE = ("support_x", "support_y", "query_x", "query_y")
SHORT = (
    "data.meta_batch_size=1", "data.val_tasks=1", "trainer=cpu", "trainer.max_steps=20", "trainer.log_every_n_steps=1",
    "test=false", "seed=0", "calibration_tasks=0", "callbacks=minimal", "~callbacks.memory",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("steps", [pytest.param(20, marks=pytest.mark.proof), 5])
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_losses(compose_config, tmp_path, monkeypatch, experiment, steps):
    """A run of 20 outer steps, to its end or cut short; in double precision on another CPU than that of the golden losses.

    There, single precision says little: another CPU rounds otherwise, and Adam's first step is the sign of each gradient.
    """
    here, path = {"torch": torch.__version__, "processor": processor()}, FOLDER / f"{experiment}.json"
    golden = json.loads(path.read_text()) if path.is_file() else {}
    renewed = bool(os.environ.get("FEWSHOT_RENEW_GOLDENS")) and steps == 20
    if renewed or here.items() <= golden.items():
        losses = losses_of(experiment, steps, compose_config, tmp_path / "single")
        golden |= {**here, "losses": losses} if renewed else {}
        assert losses == golden["losses"][:steps]
    if renewed or not here.items() <= golden.items():
        compute_in_double_precision(monkeypatch)
        losses = losses_of(experiment, min(steps, 5), compose_config, tmp_path / "double")
        golden |= {"double_precision": losses} if renewed else {}
        assert losses == pytest.approx(golden["double_precision"], rel=1e-8)
    if renewed:
        path.write_text(json.dumps(golden, indent=1) + "\n")


def losses_of(experiment, steps, compose_config, folder):
    """The losses of a run's first outer steps."""
    end = (f"+trainer.limit_train_batches={steps}", f"trainer.val_check_interval={steps}")
    train(compose_config(folder, *stand_in(experiment), *SHORT, *end, experiment=experiment))
    rows = csv.DictReader((folder / "run/metrics.csv").read_text().splitlines())
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert len(losses) == steps
    return losses


def compute_in_double_precision(monkeypatch):
    """Weights and inputs of runs, whose config knows single precision alone."""
    scaled = EpisodicDataModule.scaled

    def doubled(self, batch):
        return [
            replace(part, **{name: getattr(part, name).double() for name in PRECISE if getattr(part, name).is_floating_point()})
            for part in scaled(self, batch)
        ]

    monkeypatch.setattr(EpisodicDataModule, "scaled", doubled)
    monkeypatch.setattr("fewshot.runtime.train.build_model", lambda *args: with_known_weights(build_model(*args)))


@pytest.mark.slow
@pytest.mark.parametrize(("experiment", "other"), SAME_RECIPE.items())
def test_experiments_of_one_recipe_need_losses_of_one(compose_config, tmp_path, experiment, other):
    assert compose_config(tmp_path, *IMAGES, experiment=experiment) == compose_config(tmp_path, *IMAGES, experiment=other)


def numbers(name, *shape):
    """From -1 to 1, the same on every machine and with every version of PyTorch."""
    values = uniforms(stream_key("golden", name), [0], math.prod(shape))[0]
    return torch.from_numpy(2 * values - 1).view(shape)


def with_known_weights(model):
    """In double precision, with weights that no CPU draws otherwise than another."""
    model = model.double()
    with torch.no_grad():
        for of, parameter in model.network.named_parameters():
            if parameter.ndim and not ((parameter == 0) | (parameter == 1)).all():  # drawn at random
                parameter.copy_(numbers(of, *parameter.shape) / max(1, parameter[0].numel()) ** 0.5)
    return model


def golden_tasks(step, ways=3, shots=2, queries=2, tasks=2):
    support, query = (
        numbers(f"{step} {rows}", tasks, ways * of_each, 1, 16, 16) for rows, of_each in enumerate((shots, queries))
    )
    labels = [torch.arange(ways).repeat_interleave(of_each).repeat(tasks, 1) for of_each in (shots, queries)]
    classes = torch.tensor([[0, 3, 1], [2, 4, 3]])
    return TaskBatch(support, labels[0], query, labels[1], TaskRows(torch.arange(tasks), class_id=classes))


@pytest.mark.parametrize("name", MODELS)
def test_losses_in_double_precision(compose_config, tmp_path, name):
    """Where no rounding counts, no CPU and no version of PyTorch makes a difference."""
    model = with_known_weights(build_model(compose_config(tmp_path, f"model={name}"), classes=5)).train()
    losses = []
    if model.takes_outer_steps:
        optimizer = optimizer_of(model)
        losses = [outer_step(model, optimizer, golden_tasks(step)) for step in range(3)]
    batch = golden_tasks(3)
    outputs = model.eval().evaluate(batch)[:, -1].detach()
    losses.append(model.query_losses(outputs, batch.query_y).mean().item())
    path = FOLDER / "double_precision.json"
    golden = json.loads(path.read_text()) if path.is_file() else {}
    if os.environ.get("FEWSHOT_RENEW_GOLDENS"):
        golden |= {name: losses}
        path.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")
    assert losses == pytest.approx(golden[name], rel=1e-8)
