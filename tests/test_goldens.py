"""The first 20 losses of every experiment on a stand-in for its data: a change that should change nothing must reproduce them.

``make goldens`` writes them anew; say in the commit why they changed.
"""

import csv
import json
import os
from pathlib import Path

import pytest
import torch

from fewshot.runtime.provenance import processor
from fewshot.runtime.train import train
from tests.experiments import stand_in

FOLDER = Path(__file__).parent / "goldens"
EXPERIMENTS = sorted(path.stem for path in (Path(__file__).parents[1] / "configs/experiment").glob("*.yaml"))
SHORT = (
    "data.meta_batch_size=1", "data.val_tasks=2", "trainer=cpu", "trainer.max_steps=20", "trainer.val_check_interval=20",
    "trainer.log_every_n_steps=1", "test=false", "seed=0",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_losses(compose_config, tmp_path, experiment):
    train(compose_config(tmp_path, *stand_in(experiment), *SHORT, experiment=experiment))
    rows = csv.DictReader((tmp_path / "run/metrics.csv").read_text().splitlines())
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert len(losses) == 20
    here, path = {"torch": torch.__version__, "processor": processor()}, FOLDER / f"{experiment}.json"
    if os.environ.get("FEWSHOT_RENEW_GOLDENS"):
        path.write_text(json.dumps({**here, "losses": losses}, indent=1) + "\n")
    golden = json.loads(path.read_text())
    if here.items() <= golden.items():
        assert losses == golden["losses"]
    else:  # another processor rounds otherwise, and each step makes the difference larger
        assert losses[:5] == pytest.approx(golden["losses"][:5], rel=1e-3)
