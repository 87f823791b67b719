"""Folders of runs as train.py leaves them, written by hand: a sweep over learning rates, seeds and folds."""

import csv

import numpy as np

from fewshot.evaluation.results import write_results
from fewshot.sweep.job import Job

TASKS, QUERIES = 30, 10
CLASSES = ("<script>alert(1)</script>", "$x_1$ & co", "漢字", "d|e")
"""Names that a page, a figure and a table could take for something else."""
HARDNESS = np.random.default_rng(0).normal(0, 0.1, TASKS)


def write_job(folder, lr, seed, level, fold=None, tested=True, classes=CLASSES, **protocol):
    """A complete job; returns the accuracy of each of its test tasks."""
    job = Job(folder / f"{lr}-{seed}-{fold}")
    overrides = ["experiment=tiny", f"model.inner.lr={lr}", f"seed={seed}", "paths.cache_dir=/tmp/somewhere"]
    overrides += [] if fold is None else [f"data.split.fold={fold}"]
    job.freeze("{}", overrides, ["train.py", *overrides], "module:function", f"group-{lr}-{fold}")
    random = np.random.default_rng([seed, int(100 * lr), fold or 0])
    right = random.uniform(size=(TASKS, QUERIES)) < (level + HARDNESS + (fold or 0) * 0.05)[:, None]
    accuracy = right.mean(axis=1)
    rows = [[task, 0.2, value, 1, 1] for task, value in enumerate(accuracy)]
    write_csv(job.folder / "test_tasks.csv", ["task", "acc_0", "acc_1", "loss_0", "loss_1"], rows)
    predictions = []
    for (task, query), ok in np.ndenumerate(right):
        true = classes[(task + query % 3) % len(classes)]
        other = classes[(task + (query + 1) % 3) % len(classes)]
        predictions.append([task, query, "", true, true if ok else other, 0.9 if ok else 0.7])
    write_csv(job.folder / "test_predictions.csv", ["task", "row", "item", "true", "predicted", "probability"], predictions)
    curve = [[step, level - 0.3 / (step + 1), "" if step % 2 else 1 / (step + 1)] for step in range(6)]
    write_csv(job.folder / "metrics.csv", ["step", "val/acc", "train/loss"], curve)
    known = {
        "data": "toy", "ways": 3, "shots": 1, "queries": 4, "split": "test", "test_tasks": TASKS, "seed": seed,
        "splits_sha256": {"test": f"fold{fold}"}, "train": {"steps": 6}, "model": "MAML", "backbone": "Conv4",
        "batch_norm": "transductive", "eval_steps": 1,
    }  # fmt: skip
    write_results(
        job.folder / "results.json",
        status="completed",
        metrics={"val/acc": level + 0.1, **({"test/acc": accuracy.mean(), "test/acc_ci95": 0.01} if tested else {})},
        test={"tasks": TASKS, "acc_per_step": [0.2, 0.5], "acc_per_step_ci95": [0.1, 0.1], "per_task_file": "test_tasks.csv"}
        if tested
        else None,
        protocol=known | protocol,
        cost={"train_seconds": 10.0 + seed, "peak_rss_bytes": 2**30},
        provenance={"git_commit": "abc", "command": ["train.py", *overrides], "data_sha256": {"test": "b"}},
    )
    return accuracy


def write_csv(path, header, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
