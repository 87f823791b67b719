"""The best config as an experiment file: short, and the same config again."""

import pytest
import yaml
from hydra import compose, initialize_config_dir

from fewshot.sweep.export_best import write_experiment
from fewshot.sweep.identity import job_id
from fewshot.sweep.job import jobs_in
from tests.entry import ROOT, TINY, main


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "written", "taken_away"),
    [
        (
            ["model.inner.lr=0.1", "model.inner.adapt=[head.*]"],
            {"defaults": ["tiny"], "model": {"inner": {"lr": 0.1, "adapt": ["head.*"]}}},
            [],
        ),
        (
            ["model=protonet", "model/backbone=mlp", "data.shots=5", "model.scheduler=null"],
            {
                "defaults": ["tiny", {"override /model": "protonet"}, {"override /model/backbone": "mlp"}],
                "data": {"shots": 5},
                "model": {"scheduler": None},
            },
            [],
        ),
        (["trainer=default", "~callbacks.learning_rate"], {"defaults": ["tiny", {"override /trainer": "default"}]},
         ["~callbacks.learning_rate"]),
    ],
)  # fmt: skip
def test_a_file_says_what_differs_and_composes_to_the_same_config(tmp_path, monkeypatch, overrides, written, taken_away):
    monkeypatch.setattr("fewshot.sweep.launch.run_jobs", lambda *_: None)
    main("train.py", "-m", *TINY, *overrides, "seed=7", "launcher=local", f"hydra.sweep.dir={tmp_path}")
    (job,) = jobs_in(tmp_path)
    more = write_experiment(job, tmp_path / "experiment/best.yaml", "The best.")
    text = (tmp_path / "experiment/best.yaml").read_text()
    assert text.startswith("# @package _global_\n# The best.\n\n")
    assert yaml.safe_load(text) == written
    assert more == [f"hydra.searchpath=[file://{ROOT}/tests/configs]", *taken_away]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        folders = f"hydra.searchpath=[file://{tmp_path},file://{ROOT}/tests/configs]"
        cfg = compose("train", [folders, "experiment=best", "seed=7", *taken_away])
    assert job_id(cfg) == job.name
