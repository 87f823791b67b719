"""CSV files of runs, read without PyTorch: held against figures worked out by hand and against torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error

from fewshot.errors import UserError
from fewshot.report.readings import BINS, Confusion, Queries, calibration, confusions, curve, queries_of


def queries(*lines):
    task, true, predicted, probability = zip(*lines, strict=True)
    return Queries(np.array(task), np.arange(len(lines)), true, predicted, np.array(probability))


def test_a_share_of_confusions_is_of_the_tasks_that_had_both_classes():
    run = queries((0, "a", "b", 0.9), (0, "a", "a", 0.8), (0, "b", "b", 0.7), (1, "a", "a", 0.6), (1, "c", "", 0.0))
    assert confusions([run, run]) == [Confusion("a", "b", 2, 4)]


def test_the_calibration_error_is_that_of_results_json():
    random = np.random.default_rng(0)
    probability = np.concatenate([random.uniform(size=500), [0.0, 1.0]])
    right = random.uniform(size=502) < probability**2
    found = calibration([queries(*((0, "a", "a" if ok else "b", p) for ok, p in zip(right, probability, strict=True)))])
    expected = binary_calibration_error(torch.from_numpy(probability), torch.from_numpy(right).long(), n_bins=BINS, norm="l1")
    assert found.ece == pytest.approx(float(expected), abs=1e-6)
    assert found.queries.sum() == 502
    first = (probability <= 1 / BINS).nonzero()[0]
    assert found.accuracy[0] == pytest.approx(right[first].mean())


def test_a_curve_has_the_steps_that_were_logged(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,val/acc,train/loss\n9,,0.5\n19,0.25,0.4\n")
    steps, values = curve(tmp_path, "val/acc")
    assert (steps.tolist(), values.tolist()) == ([20], [0.25])
    assert len(curve(tmp_path, "val/mae")[0]) == len(curve(tmp_path / "elsewhere", "val/acc")[0]) == 0


def test_values_have_no_queries_of_classes(tmp_path):
    (tmp_path / "test_predictions.csv").write_text("task,row,item,true,predicted,probability\n0,1,,0.5,0.4,\n")
    assert queries_of(tmp_path) is None


def test_a_broken_file_is_named(tmp_path):
    path = tmp_path / "test_predictions.csv"
    path.write_text("task,row,item,true,predicted,probability\n0,x,,a,b,0.5\n")
    with pytest.raises(UserError, match=str(path)):
        queries_of(tmp_path)
    path.write_text("task,row\n0,1\n")
    with pytest.raises(UserError, match="has no column true"):
        queries_of(tmp_path)
