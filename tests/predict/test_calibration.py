"""Temperatures, calibration errors, and what tells unknown classes, on figures that are known; and in a real run."""

import json
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch

from fewshot import FewShotLearner
from fewshot.data.images.glyphs import Glyphs
from fewshot.data.parts import class_tasks
from fewshot.data.source import SPLITS
from fewshot.errors import UserError
from fewshot.evaluation.model_card import model_card
from fewshot.evaluation.results import read_results
from fewshot.objectives import Classification
from fewshot.predict.calibration import calibration_error, fit_temperature
from fewshot.predict.leave_one_out import Estimate, leave_one_out
from fewshot.predict.unknown import auroc, fpr95, threshold
from fewshot.predict.unknown_tasks import require_unknown_classes, with_unknown
from fewshot.runtime.train import train
from fewshot.tasks.batch import TaskRows, TaskSize
from fewshot.tasks.class_sampler import ClassSampler
from fewshot.tasks.streams import stream_key
from fewshot.tasks.table import CLASS, Column, Table
from fewshot.tasks.unknown import draw_unknown
from tests.toy import Toy


@pytest.mark.parametrize("factor", [3, 0.002])
def test_the_temperature_that_outputs_were_multiplied_by_is_found(factor):
    generator = torch.Generator().manual_seed(0)
    honest = torch.randn(4000, 3, generator=generator, dtype=torch.float64) * 2
    labels = torch.multinomial(honest.softmax(dim=1), 1, generator=generator)[:, 0]
    outputs, labels = list((factor * honest).split(500)), list(labels.split(500))
    assert fit_temperature(outputs, labels) == pytest.approx(factor, rel=0.05)
    assert calibration_error(outputs, labels, factor) < 0.02 < 0.1 < calibration_error(outputs, labels, 1.0)


def test_the_calibration_error_of_a_sure_and_wrong_model_is_1():
    assert calibration_error([torch.tensor([[100.0, 0.0]])], [torch.tensor([1])], 1.0) == pytest.approx(1)
    assert calibration_error([torch.tensor([[0.0, 0.0]] * 2)], [torch.tensor([0, 1])], 1.0) == pytest.approx(0)


def test_scores_of_unknown_queries_are_compared():
    known, unknown = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[0.0, 2.0, 5.0]])
    assert auroc(known, unknown).item() == pytest.approx((4 + 2.5 + 0) / 12)
    assert fpr95(known, unknown).item() == pytest.approx(2 / 3)  # all of the four have to be accepted: from 1 on
    assert threshold(torch.arange(20.0), 0.05).item() == 1  # one of the twenty lies below
    assert threshold(torch.arange(20.0), 0.04).item() == 0


def test_unknown_queries_are_of_other_classes_and_always_the_same():
    table = Table({CLASS: Column.of([f"c{number // 6}" for number in range(60)])})
    size = TaskSize(3, 1, 2)
    (rows,) = ClassSampler(size.ways, size.shots, size.queries).draw(table, stream_key("test"), [0, 1, 2])
    found = draw_unknown(table, rows, 4, ("test",))
    assert found.shape == (3, 8)
    for task, numbers in enumerate(found.numpy()):
        classes = table.columns[CLASS].values[numbers]
        assert len(np.unique(classes)) == 4
        assert not set(classes) & set(rows.class_id[task].tolist())
        assert len(np.unique(numbers)) == 8
    alone = draw_unknown(table, rows.slice(1, 2), 4, ("test",))
    assert torch.equal(alone[0], found[1])
    with pytest.raises(UserError, match=r"data\.eval\.unknown_ways=8 but tasks take 3 of the 10 classes; choose at most 7"):
        draw_unknown(table, rows, 8, ("test",))
    with pytest.raises(UserError, match="these tasks have no classes"):
        draw_unknown(table, TaskRows(torch.tensor([0])), 1, ("test",))


def test_unknown_queries_may_be_of_a_source_of_their_own(toy_data):
    """As many as 2 classes have queries, from all its parts; the task itself stays as it is."""
    datamodule = toy_data(test=class_tasks(Toy(), 3, 1, 4, unknown=Toy(classes=4)))
    datamodule.setup("test")
    (rows,) = datamodule.tasks_of("test").rows([0, 1])
    plain, _ = with_unknown(datamodule, "test", rows, 0)
    batch, own = with_unknown(datamodule, "test", rows, 2)
    assert (own, batch.query_x.shape[:2], batch.query_y.shape) == (12, (2, 20), (2, 20))
    assert batch.query_x[:, :12].equal(plain.query_x)
    assert batch.support_x.equal(plain.support_x)
    images = {image.tobytes() for split in SPLITS for of_class in Toy(classes=4).images(split) for image in of_class}
    found = [[image.tobytes() for image in of_task.numpy()] for of_task in batch.query_x[:, 12:]]
    assert {*found[0], *found[1]} <= images
    assert [len(set(of_task)) for of_task in found] == [8, 8]
    alone, _ = with_unknown(datamodule, "test", rows.slice(1, 2), 2)
    assert alone.query_x[0].equal(batch.query_x[1])


def test_unknown_queries_are_of_no_patient_in_the_support_set(toy_data):
    """Of other classes as of a source of its own: a patient's pictures are alike, whatever they show."""
    source = Toy(patients=6)
    for unknown in (None, Toy(classes=4, patients=6)):
        datamodule = toy_data(test=class_tasks(source, 3, 1, 4, apart="patient", unknown=unknown), source=source)
        datamodule.setup("test")
        content = datamodule.prepared["test"]
        others = content if unknown is None else datamodule.unknown["test"]
        found = 0
        for index in range(20):
            (rows,) = datamodule.tasks_of("test").rows([index])
            batch, own = with_unknown(datamodule, "test", rows, 2)
            given = set(content.table.select(rows.support[0].numpy()).columns["patient"].names)
            by_image = {}
            for piece, _ in others.pieces:
                by_image |= {x.numpy().tobytes(): name for x, name in zip(piece.x, piece.columns["patient"], strict=True)}
            patients = [by_image[x.numpy().tobytes()] for x in batch.query_x[0, own:]]
            assert not given & set(patients)
            found += len(patients)
        assert found == 20 * 8


@pytest.mark.parametrize(("ways", "said"), [(8, "tasks take 3 of the 10 classes; choose at most 7"), (7, "")])
def test_too_many_unknown_classes_are_refused_before_training(toy_data, ways, said):
    datamodule = toy_data((), test=class_tasks(Toy(), 3, 1, 4))
    datamodule.check(["test"])
    if said:
        with pytest.raises(UserError, match=f"data.eval.unknown_ways={ways} but {said}"):
            require_unknown_classes(datamodule, "test", ways)
    else:
        require_unknown_classes(datamodule, "test", ways)


def test_unknown_queries_of_another_shape_are_refused(toy_data):
    with pytest.raises(UserError, match=r"data\.test\.unknown: rows of glyphs"):
        toy_data(test=class_tasks(Toy(), 3, 1, 4, unknown=Glyphs()))


def test_an_estimate_has_wilsons_interval():
    low, high = Estimate(8, 10, 0.5).interval
    assert (low, high) == (pytest.approx(0.490, abs=1e-3), pytest.approx(0.943, abs=1e-3))
    assert "\nThat is not told from chance, 50 %" in str(Estimate(8, 10, 0.5))
    assert "chance" not in str(Estimate(9, 10, 0.2))


class Nearest:
    """Stands for a predictor: a query is of the class of the row that is most like it."""

    model = SimpleNamespace(objective=Classification("acc", "max"))

    def outputs(self, batch):
        near = torch.cdist(batch.query_x, batch.support_x).argmin(dim=-1)
        return torch.nn.functional.one_hot(batch.support_y.gather(1, near), 2).float()


def test_copies_of_an_example_are_no_test_of_it():
    """Each has one in the rest, which would always be right."""
    x, y = torch.tensor([[0.0], [0.0], [5.0], [1.0], [1.0], [4.0]]), torch.tensor([0, 0, 1, 1, 1, 0])
    found = leave_one_out(Nearest(), x, y)
    assert (found.right, found.asked) == (1, 2)
    assert leave_one_out(Nearest(), x[:2], y[:2]) is None


def test_chance_is_what_naming_the_largest_class_achieves():
    """Seven of nine, though there are two classes; all, where the other class has one example, which is not asked for."""
    x = torch.arange(9.0)[:, None]
    assert leave_one_out(Nearest(), x, (x[:, 0] > 6).long()).chance == 7 / 9
    assert leave_one_out(Nearest(), x, (x[:, 0] > 7).long()).chance == 1


def test_of_large_support_sets_fewer_examples_are_asked_for():
    x = torch.arange(1500.0)[:, None]
    found = leave_one_out(Nearest(), x, (x[:, 0] > 700).long())
    assert found.asked == 52


def test_no_class_is_the_smaller_one_for_being_asked_for():
    """Naming the largest class is right for one of two classes; left out alone, each example would be of the smaller one."""
    largest = Nearest()
    largest.outputs = lambda batch: torch.nn.functional.one_hot(batch.support_y.mode()[0], 2).float()[:, None].expand(-1, 2, -1)
    found = leave_one_out(largest, torch.arange(6.0)[:, None], torch.tensor([0, 1] * 3))
    assert (found.right, found.asked) == (3, 6)


def test_each_example_is_asked_for_once_whatever_the_sizes_of_classes():
    """Examples of one class alone are near each other, and the two of the small class go with two others."""
    x, y = torch.tensor([0.0, 1, 2, 3, 4, 100, 101, 200])[:, None], torch.tensor([0] * 5 + [1] * 2 + [2])
    together = []

    class Noted(Nearest):
        def outputs(self, batch):
            together.extend(sorted(task[:, 0].tolist()) for task in batch.query_x)
            near = torch.cdist(batch.query_x, batch.support_x).argmin(dim=-1)
            return torch.nn.functional.one_hot(batch.support_y.gather(1, near), 3).float()

    found = leave_one_out(Noted(), x, y)
    assert (found.right, found.asked) == (7, 7)
    assert sorted(together) == [[0.0, 100.0], [1.0], [2.0, 101.0], [3.0], [4.0]]


def test_outputs_that_are_not_finite_are_wrong_answers_without_confidence():
    outputs, labels = torch.tensor([[torch.nan, 0.0], [0.0, 100.0]]), torch.tensor([0, 1])
    assert calibration_error([outputs], [labels], 1.0) == pytest.approx(0)
    lost = Nearest()
    lost.outputs = lambda batch: torch.full((len(batch), 1, 2), torch.nan)
    assert leave_one_out(lost, torch.arange(4.0)[:, None], torch.tensor([0, 0, 1, 1])).right == 0


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_run_leaves_a_temperature_thresholds_and_a_card(compose_config, tmp_path, monkeypatch):
    overrides = ("model=protonet", "calibration_tasks=8", "data.eval.unknown_ways=4")
    metrics = train(compose_config(tmp_path, *overrides))
    content = json.loads((tmp_path / "run/calibration.json").read_text())
    assert content["tasks"] == 8
    assert 1e-3 < content["temperature"] < 1e3
    learner = FewShotLearner.from_run(tmp_path / "run", trust=("tests",))
    name, least = learner.threshold(0.05)
    assert (name, least) == (content["unknown"]["score"], content["unknown"]["scores"][name]["thresholds"]["0.05"])
    for score in ("probability", "energy", "distance"):
        assert 0.3 < metrics[f"test/unknown_auroc_{score}"] <= 1
        assert 0 <= metrics[f"test/unknown_fpr95_{score}"] <= 1
    results = json.loads((tmp_path / "run/results.json").read_text())
    card = (tmp_path / "run/model_card.md").read_text()
    assert card == model_card(results, content, tmp_path / "run")
    assert f"| test/acc | {metrics['test/acc']:.4f} ± {metrics['test/acc_ci95']:.4f} |" in card
    written = [(tmp_path / "run" / name).stat().st_mtime_ns for name in ("calibration.json", "model_card.md", "results.json")]
    assert written == sorted(written), "killed before all is there, the run is not complete, also as a job of a sweep"
    plain = train(compose_config(tmp_path / "plain", "model=protonet", "calibration_tasks=0"))
    assert plain["test/acc"] == metrics["test/acc"], "added queries leave the accuracy alone"
    assert not (tmp_path / "plain/run/calibration.json").exists()
    assert train(compose_config(tmp_path / "plain", "model=protonet", "calibration_tasks=8", "resume=true")) == plain
    assert json.loads((tmp_path / "plain/run/calibration.json").read_text()) == content
    monkeypatch.setattr("fewshot.runtime.train.calibrate", mock.Mock(side_effect=RuntimeError("out of memory")))
    with pytest.raises(RuntimeError, match="out of memory"):
        train(compose_config(tmp_path / "plain", "model=protonet", "calibration_tasks=4", "resume=true"))
    assert read_results(tmp_path / "plain/run/results.json")["metrics"] == plain, "a crash of the calibration costs no result"
