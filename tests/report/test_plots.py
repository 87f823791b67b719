"""Figures of a report: what they count."""

import numpy as np
import pytest

from fewshot.report.plots import bin_edges, shortened


@pytest.mark.parametrize("queries", [25, 75, 80])
def test_each_bin_has_as_many_of_the_possible_accuracies(queries):
    possible = 100 * np.arange(queries // 3, queries + 1) / queries
    edges = bin_edges(possible.repeat(2))
    counts, _ = np.histogram(possible, edges)
    assert counts.sum() == len(possible)
    assert set(counts[:-1].tolist()) == {counts[0]}, "but for the last, beyond which nothing is possible"
    assert 15 <= len(counts) <= 31


def test_bins_of_errors_and_of_a_single_value():
    errors = np.random.default_rng(0).exponential(size=600)
    counts, _ = np.histogram(errors, bin_edges(errors))
    assert counts.sum() == 600
    assert 29 <= len(counts) <= 31
    assert np.histogram([5.0], bin_edges(np.array([5.0, 5.0])))[0].tolist() == [1]


def test_long_labels_keep_what_tells_them_apart():
    shared = "max_steps=2 val_tasks=10 test_tasks=30"
    labels = [
        f"{shared} model=protonet unknown_ways=2",
        f"{shared} experiment=clinc150_5w1s model=protonet",
        shared,
        "model=maml",
    ]
    assert shortened(labels) == [
        "…model=protonet unknown_ways=2",
        "…experiment=clinc150_5w1s model=p…",
        "…test_tasks=30",
        "model=maml",
    ]
    assert shortened(["model.inner.lr=0.1 data.ways=20 data.shots=5"]) == ["model.inner.lr=0.1 data.ways=20 d…"]
