"""The table of `make compare-algorithms`: figures that can be worked out from what the runs left."""

import json

import pytest

from benchmarks.algorithms import HEADER, main, runs_below, table
from fewshot.errors import UserError


def write_run(folder, model, accuracies, ways=5, **protocol):
    folder.mkdir(parents=True)
    lines = "".join(f"{task},{accuracy},0.5\n" for task, accuracy in enumerate(accuracies))
    (folder / "test_tasks.csv").write_text("task,acc_0,loss_0\n" + lines)
    content = {
        "schema": 1,
        "status": "completed",
        "metrics": {"test/acc": sum(accuracies) / len(accuracies)},
        "test": {"tasks": len(accuracies), "acc_per_step": [0.5], "per_task_file": "test_tasks.csv"},
        "protocol": {
            "model": model, "data": "omniglot-vinyals", "splits_sha256": {"test": "abc"},
            "ways": ways, "shots": 1, "queries": 15,
            "within_group": False, "eval_seed": 0, "test_tasks": len(accuracies), "seed": 0, "backbone": "Conv4",
            "adapt": [], "transductive": False, "forward_multiply_adds": 2_500_000,
            "train": {"ways": 60, "shots": 1, "queries": 5, "meta_batch_size": 2, "steps": 50},
            **protocol,
        },
        "cost": {"train_seconds": 20.0, "peak_rss_bytes": 300 * 2**20},
        "provenance": {
            "data_sha256": {"test": "def"}, "machine": {"processor": "a processor", "threads": 1, "accelerators": []},
            "git_commit": "c0ffee", "packages": {"torch": "2"},
        },
    }  # fmt: skip
    (folder / "results.json").write_text(json.dumps(content))


def row_of(folder, model):
    (row,) = [row for row in table(runs_below(folder)) if row[0] == model]
    return dict(zip(HEADER, row, strict=True))


def test_figures_are_those_of_the_runs(tmp_path):
    """Differences of 0.1, 0.1 and 0.4: mean 0.2, s 0.1732, t(0.975, 2) = 4.3027, so a half width of 0.4303."""
    write_run(tmp_path / "a", "MAML", [0.5, 0.6, 0.5])
    write_run(tmp_path / "deep/b", "ProtoNet", [0.6, 0.7, 0.9])
    row = row_of(tmp_path, "ProtoNet")
    assert row["test accuracy, %"].startswith("73.33 ± ")
    assert row["difference to MAML, points"] == "+20.00 ± 43.03"
    assert (row["steps"], row["tasks"], row["images"]) == ("50", "100", "36,000")
    assert (row["tasks/s"], row["images/s"]) == ("5", "1,800")
    assert (row["peak memory, MiB"], row["query forward, M multiply-adds"]) == ("300", "2.5")
    assert row["published, %"] == "98.8 (Snell et al. 2017)"
    assert row_of(tmp_path, "MAML")["difference to MAML, points"] == ""
    assert [row[0] for row in table(runs_below(tmp_path))] == ["ProtoNet", "MAML"]


def test_published_accuracies_stand_beside_their_own_task_only(tmp_path):
    write_run(tmp_path / "a", "MAML", [0.5, 0.6], ways=20)
    assert row_of(tmp_path, "MAML")["published, %"] == ""


def test_seeds_are_averaged(tmp_path):
    for seed, accuracies in ((0, [0.5, 0.6]), (1, [0.7, 0.8])):
        write_run(tmp_path / f"a{seed}", "MAML", accuracies, seed=seed)
    assert row_of(tmp_path, "MAML")["test accuracy, %"].startswith("65.00 ± ")


def test_the_page_says_what_was_measured(tmp_path):
    write_run(tmp_path / "runs/a", "MAML", [0.5, 0.6])
    main(str(tmp_path / "runs"), str(tmp_path / "results/omniglot_5w1s.md"))
    page = (tmp_path / "results/omniglot_5w1s.md").read_text()
    unwrapped = " ".join(page.split())
    assert page.startswith("# Algorithms on omniglot_5w1s\n")
    assert '\nmake compare-algorithms EXPERIMENT=omniglot_5w1s STEPS=50 OVERRIDES="seed=0"\n' in page
    for words in ("5-way 1-shot", "same 2 tasks", "commit c0ffee", "| MAML | 55.00 ±"):
        assert words in unwrapped
    assert "50 outer steps of 2 tasks with 60 ways, 1 shot and 5 queries a class: 100 tasks and 36,000 images" in unwrapped
    assert "images/s" not in unwrapped


def test_where_models_were_trained_on_other_tasks_each_row_says_on_which(tmp_path):
    write_run(tmp_path / "runs/a", "MAML", [0.5, 0.6])
    write_run(
        tmp_path / "runs/b",
        "ProtoNet",
        [0.5, 0.6],
        train={"ways": 5, "shots": 1, "queries": 5, "meta_batch_size": 2, "steps": 50},
    )
    main(str(tmp_path / "runs"), str(tmp_path / "page.md"))
    page = (tmp_path / "page.md").read_text()
    assert "| images/s |" in page
    assert "a task is as large as that recipe has it" in " ".join(page.split())


def test_other_tasks_cannot_be_paired(tmp_path):
    write_run(tmp_path / "a", "MAML", [0.5, 0.6])
    write_run(tmp_path / "b", "ProtoNet", [0.5, 0.6], eval_seed=1)
    with pytest.raises(UserError, match="tested on different tasks"):
        runs_below(tmp_path)


def test_a_folder_without_the_baseline_is_refused(tmp_path):
    write_run(tmp_path / "a", "ProtoNet", [0.5, 0.6])
    with pytest.raises(UserError, match="no tested run of MAML"):
        runs_below(tmp_path)


def test_controls_are_no_runs_of_the_table(tmp_path):
    """Those that control=all has put below a run."""
    write_run(tmp_path / "a", "MAML", [0.5, 0.6])
    write_run(tmp_path / "a/controls/shuffled_labels", "MAML", [0.2, 0.2], control="shuffled_labels")
    write_run(tmp_path / "a/controls/random_init", "MAML", [0.2, 0.2], control="random_init")
    assert len(runs_below(tmp_path)["MAML"]) == 1
