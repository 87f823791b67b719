"""The best checkpoints of a run, kept by training and evaluated together, as a user types it."""

import json

import pytest
import torch

from fewshot.evaluation.card import card_lines
from tests.entry import CONFIG_DIR, TINY, main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]


def test_the_best_checkpoints_are_kept_and_evaluated_together(tmp_path):
    run, keeps = tmp_path / "run", ("callbacks=ensemble", "callbacks.top.save_top_k=2", "trainer.val_check_interval=1")
    done = main("train.py", *TINY, *keeps, f"hydra.run.dir={run}", f"paths.cache_dir={tmp_path / 'cache'}")
    assert done.code == 0, done.err
    kept = [torch.load(path, weights_only=True) for path in (run / "checkpoints/top").iterdir()]
    best = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    assert len(kept) == 2
    assert best["global_step"] in [content["global_step"] for content in kept]

    def evaluated(*overrides):
        folder = tmp_path / "-".join(overrides)
        return main("eval.py", CONFIG_DIR, f"run={run}", f"hydra.run.dir={folder}", *overrides), folder

    done, alone = evaluated("ensemble=1")
    assert done.code == 0, done.err
    assert (alone / "test_tasks.csv").read_text().splitlines()[0] == (run / "test_tasks.csv").read_text().splitlines()[0]
    metrics = [json.loads((folder / "results.json").read_text())["metrics"] for folder in (alone, run)]
    assert metrics[0]["test/nll"] == pytest.approx(metrics[1]["test/nll"], rel=1e-5)
    done, both = evaluated("ensemble=2")
    assert done.code == 0, done.err
    results = json.loads((both / "results.json").read_text())
    assert results["metrics"]["test/nll"] != metrics[0]["test/nll"]
    assert results["protocol"]["ensemble"] == 2
    assert card_lines(results)[2].endswith("chosen on validation: checkpoint, by accuracy · ensemble: 2 checkpoints")
    for overrides, says in (
        (["ensemble=3"], "has kept 2 checkpoints for it"),
        (["ensemble=2", "checkpoint=last"], "ensemble=2 is of the best checkpoints, and checkpoint=last"),
        (["ensemble=0"], "ensemble=0 must be"),
    ):
        refused, _ = evaluated(*overrides)
        assert refused.code == 2
        assert says in refused.err
