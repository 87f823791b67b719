"""What is shown of a run: that it is all there, that it is true, and that it changes nothing."""

import io
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.api_pb2 import Status
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from torch.utils.tensorboard.summary import hparams

from fewshot.inner.diagnostics import inner_gradient_norms, order_cosine
from fewshot.runtime.build import build_data, build_model
from fewshot.runtime.environment import set_up_process
from fewshot.runtime.plots.hparams import _named, hyper_parameters
from fewshot.runtime.plots.predictions import answers
from fewshot.runtime.train import train
from tests.entry import QUICK
from tests.forked import fork
from tests.models.test_maml import make_model, make_trainer
from tests.runtime.sameness import what_a_run_left

PICTURES = ("adaptation", "rates", "fixed_tasks", "worst_tasks", "projector")
LEARNED = ("model.inner.steps=2", "model.inner.rates=per_step")
SEEN = (
    "callbacks=default", *(f"callbacks.{name}.every_n_steps=3" for name in PICTURES), "callbacks.gradients.every_n_steps=2",
    "callbacks.gradients.compare_orders=true",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(quick_config, tmp_path_factory):
    """A run of 6 outer steps, validated after 3 and 6, of which everything is shown."""
    folder = tmp_path_factory.mktemp("seen")
    train(quick_config(folder, *LEARNED, *SEEN))
    return folder / "run"


@pytest.fixture(scope="module")
def events(run):
    return read(run)


def read(run):
    """What lies in the folder itself; those below it are other runs to TensorBoard."""
    return EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def pictures(events):
    """Tag -> step and picture."""
    return {tag: [(e.step, e.encoded_image_string) for e in events.Images(tag)] for tag in events.Tags()["images"]}


@pytest.mark.slow
def test_nothing_that_is_computed_changes(run, quick_config, tmp_path):
    """Weights, optimizer, metrics.csv, results, to the bit; of TensorBoard's curves only those of gradients are new."""
    train(quick_config(tmp_path, *LEARNED))
    seen, unseen = what_a_run_left(run), what_a_run_left(tmp_path / "run")
    for left in (seen, unseen):
        for checkpoint in ("last", "best"):
            left[checkpoint]["callbacks"].pop("AdaptationOverTime", None)
            left[checkpoint]["callbacks"].get("SaveLast", {}).pop("ended_under", None)  # hash of the config
    seen["curves"] = {tag: curve for tag, curve in seen["curves"].items() if not tag.startswith("train/gradients/")}
    for key, left in unseen.items():
        assert seen[key] == left, key


@pytest.mark.slow
def test_pictures_are_drawn_at_validations(events):
    drawn = pictures(events)
    at = {tag: [step for step, _ in shown] for tag, shown in drawn.items()}
    during = ("val/adaptation_over_time", "val/tasks", "val/worst_tasks", "train/inner_rates")
    assert at == {
        **{tag: [2, 5] for tag in during},
        **{f"when trained/test/{name}": [6] for name in ("adaptation", "confusions", "tasks")},
    }
    for shown in drawn.values():
        image = np.asarray(Image.open(io.BytesIO(shown[0][1])))
        assert image.shape[0] > 150
        assert len(np.unique(image)) > 20
    assert drawn["val/tasks"][0][1] != drawn["val/tasks"][1][1]


@pytest.mark.slow
def test_curves_of_gradients_are_those_of_the_steps(run, events, quick_config, tmp_path):
    """At the first step, from weights and tasks made anew."""
    cfg = quick_config(tmp_path, *LEARNED)
    cfg.paths.cache_dir = str(run.parent / "cache")
    set_up_process(cfg)
    data, model = build_data(cfg), build_model(cfg)
    data.prepare(["train", "val"])
    data.setup("fit")
    batch = data.scaled(data.meta_batches("train", 4)[0])[0]
    engine = model.engine_for(batch)
    norms, cosine = inner_gradient_norms(engine, batch).mean(dim=0), order_cosine(engine, batch)
    model.meta_gradient(batch)
    outer = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm()
    expected = {"outer": outer, "inner_step_1": norms[0], "inner_step_2": norms[1], "order_cosine": cosine}
    for name, value in expected.items():
        curve = [(e.step, e.value) for e in events.Scalars(f"train/gradients/{name}")]
        assert [step for step, _ in curve] == [0, 2, 4]
        assert curve[0][1] == pytest.approx(float(value), rel=1e-5), name
    assert -1 <= cosine < 0.9999


def text(events, tag):
    return events.Tensors(f"{tag}/text_summary")[0].tensor_proto.string_val[0].decode()


@pytest.mark.slow
def test_config_and_protocol_are_there_as_text(run, events):
    assert (run / "config.yaml").read_text() in text(events, "config")
    protocol = json.loads((run / "results.json").read_text())["protocol"]
    for key in ("data", "ways", "eval_seed", "batch_norm"):
        assert f"| {key} | {protocol[key]} |" in text(events, "protocol")


@pytest.mark.slow
def test_tensorboard_opens_on_the_curves(events):
    """It sorts tags, and opens the first two groups."""
    tags = [*events.Tags()["scalars"], *events.Tags()["images"]]
    assert sorted({tag.split("/")[0] for tag in tags}) == ["train", "val", "when trained"]


@pytest.mark.parametrize(
    ("folder", "name"),
    [("0123456789ab", "0123456789ab"), ("2026-11-28_05-00-00-123456", "2026-11-28_05-00-00-123456"), ("run", "")],
)
def test_a_trial_has_the_name_of_its_run_where_no_other_can_have_it(folder, name):
    _, start, _ = hparams({"lr": 0.1}, {})
    content = HParamsPluginData.FromString(_named(start, Path("logs") / folder).value[0].metadata.plugin_data.content)
    assert content.session_start_info.group_name == name
    assert content.session_start_info.hparams["lr"].number_value == 0.1


@pytest.mark.slow
def test_hparams_have_what_may_differ_and_the_final_figures(run):
    events = read(run / "final")

    def content(tag):
        return HParamsPluginData.FromString(events.SummaryMetadata(f"_hparams_/{tag}").plugin_data.content)

    found = content("session_start_info").session_start_info.hparams
    assert found["model"].string_value == "MAML"
    assert found["model.backbone"].string_value == "MLP"
    assert found["model.inner.rates"].string_value == "per_step"
    assert found["model.inner.lr"].number_value == pytest.approx(0.4)
    assert found["trainer.max_steps"].number_value == 6
    assert not [key for key in found if key.startswith(("paths", "logger", "callbacks"))]
    assert content("session_end_info").session_end_info.status == Status.Value("STATUS_SUCCESS")
    assert "_hparams_/experiment" not in events.summary_metadata, "TensorBoard is to gather the columns from all runs"
    assert sorted(events.Tags()["scalars"])[:2] == ["when trained/test/acc", "when trained/test/acc_ci95"], "what HPARAMS shows"
    results = json.loads((run / "results.json").read_text())["metrics"]
    for name in ("test/acc", "test/acc_ci95", "test/loss", "val/acc", "val/acc_ci95"):
        assert events.Scalars(f"when trained/{name}")[0].value == pytest.approx(results[name], rel=1e-6)


def test_hyper_parameters_name_classes():
    optimizer = {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.1}
    model = {"_target_": "a.b.MAML", "optimizer": optimizer, "scheduler": None, "first_order": True, "adapt": ["head.*"]}
    config = {"seed": 0, "paths": {"a": 1}, "trainer": {"max_steps": 5, "devices": 1}, "model": model}
    assert hyper_parameters(config) == {
        "seed": 0, "trainer.max_steps": 5, "model": "MAML", "model.optimizer": "Adam", "model.optimizer.lr": 0.1,
        "model.scheduler": "null", "model.first_order": "true", "model.adapt": '["head.*"]',
    }  # fmt: skip


@pytest.mark.slow
def test_the_projector_has_a_feature_vector_an_image_and_a_class_for_every_query(run):
    folder = run
    config = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (one,) = config.embeddings
    features = np.loadtxt(folder / one.tensor_path, delimiter="\t")
    rows = [line.split("\t") for line in (folder / one.metadata_path).read_text().splitlines()]
    queries = 5 * 3 * 4
    assert features.shape[0] == queries
    assert features.std(axis=0).max() > 0
    assert rows[0] == ["class", "task", "recognised"]
    assert [row[1] for row in rows[1:]] == [str(task) for task in range(5) for _ in range(12)]
    assert all(row[0].startswith("val0") for row in rows[1:])
    assert {row[2] for row in rows[1:]} <= {"yes", "no"}
    width, height = one.sprite.single_image_dim
    assert (width, height) == (16, 16)
    with Image.open(folder / one.sprite.image_path) as sprite:
        assert sprite.size == (8 * 16, 8 * 16)


@pytest.mark.parametrize("shuffled", [False, True])
def test_answers_are_those_of_the_evaluation(toy_data, tmp_path, shuffled):
    model, data, trainer = make_model(), toy_data(shuffled_labels=shuffled), make_trainer(tmp_path)
    trainer.validate(model, data, verbose=False)
    random = torch.get_rng_state()
    seen = answers(trainer, model.eval(), "val", [7, 2])
    assert torch.equal(torch.get_rng_state(), random)
    assert seen.index.tolist() == [7, 2]
    np.testing.assert_allclose(seen.accuracy.mean(axis=1), model.scores["val"].deciding[[7, 2], -1])
    assert ((seen.confidence >= 1 / 3) & (seen.confidence <= 1)).all()
    batch = data.meta_batches("val", 10)[1][0].slice(3, 4)
    for name, shown in (("support", seen.support), ("query", seen.query)):
        labels = getattr(batch, f"{name}_y")[0]
        of_class_1 = getattr(batch, f"{name}_x")[0][labels == 1].movedim(1, -1) / 255
        per_class = len(labels) // 3
        np.testing.assert_allclose(shown[0, per_class : 2 * per_class], of_class_1)
    if not shuffled:
        (first,) = {data.prepared["val"].table.classes[int(row) // 12] for row in batch.rows.query[0, :4]}
        assert seen.classes[0][0] == first


@pytest.mark.slow
def test_the_worst_tasks_are_those_solved_worst(quick_config, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("fewshot.runtime.plots.tasks_shown.worst_tasks", lambda *given: shown.append(given) or Figure())
    train(quick_config(tmp_path, "callbacks=default", "callbacks.worst_tasks.tasks=3", "test=false"))
    (index, _, classes, accuracy), *_ = shown
    assert index.shape == (3,)
    assert accuracy.shape == (3, 3)
    assert (np.diff(accuracy.mean(axis=1)) >= 0).all()
    assert len(classes[0]) == 3


@pytest.mark.slow
@pytest.mark.parametrize("where", ["fewshot.runtime.plots.task_figures:task_pictures", "fewshot.runtime.report:print_summary"])
def test_a_run_that_was_killed_shows_what_an_undisturbed_one_shows(run, tmp_path, where):
    """In the middle of drawing at the second validation, and after everything has been drawn."""
    arguments = [*QUICK, *LEARNED, *SEEN, f"hydra.run.dir={tmp_path / 'run'}", f"paths.cache_dir={run.parent / 'cache'}"]
    calls = 2 if where.endswith("pictures") else 1
    assert fork("train.py", *arguments, output=tmp_path / "out", signal_in=(where, calls)).wait() == -signal.SIGKILL
    assert fork("train.py", *arguments, output=tmp_path / "out").wait() == 0, (tmp_path / "out").read_text()
    here, there = read(tmp_path / "run"), read(run)
    assert pictures(here) == pictures(there)
    assert what_a_run_left(tmp_path / "run")["curves"] == what_a_run_left(run)["curves"]
    for name in ("projector_config.pbtxt", "projector/features.tsv", "projector/queries.tsv", "projector/images.png"):
        assert (tmp_path / "run" / name).read_bytes() == (run / name).read_bytes()


@pytest.mark.slow
def test_a_model_without_an_inner_loop_shows_what_it_has(quick_config, tmp_path):
    train(quick_config(tmp_path, *SEEN, "model=protonet", "test=false"))
    events = read(tmp_path / "run")
    assert set(pictures(events)) == {
        "val/tasks", "val/worst_tasks", *(f"when trained/val/{name}" for name in ("adaptation", "confusions", "tasks"))
    }  # fmt: skip
    assert {tag for tag in events.Tags()["scalars"] if tag.startswith("train/gradients/")} == {"train/gradients/outer"}
    assert len((tmp_path / "run/projector/features.tsv").read_text().splitlines()) == 5 * 3 * 4
