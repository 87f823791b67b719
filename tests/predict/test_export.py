"""Files that `export.py` writes compute what the model computes, for any number of queries, and say what they are."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot import FewShotLearner
from fewshot.errors import UserError
from fewshot.models.episode_graph import EpisodeGraph
from fewshot.predict import export as command
from fewshot.predict.export import difference
from fewshot.predict.export_formats import FORMATS
from fewshot.predict.tensor_file import read_tensors
from tests.entry import main
from tests.predict.test_learner import FIXED, MODELS, SHORTER, TRUST
from tests.runs import tasks_of, untrained

GRAPHS = (
    "maml", "anil", "mamlpp", "cavia", "protonet", "matchingnet", "relationnet", "r2d2", "metaoptnet", "simpleshot", "baseline",
    "baselinepp", "tim",
)  # fmt: skip
"""Models whose adapted networks have different graphs: the other relatives of MAML have MAML's."""
ALIKE = FIXED - {"maml", "mamlpp", "cavia"} | {"simpleshot", "metaoptnet", "baseline"}
"""Whose networks, once adapted, have the operations of another model's: left to `make prove`."""
BOTH = ("maml", "anil", "protonet", "r2d2", "baseline")
RESULTS = {"schema": 1, "metrics": {}, "protocol": {"ways": 3, "train": {}}, "cost": {}, "provenance": {}, "test": None}
"""Of a run of an older version."""
with_onnx = pytest.mark.skipif(find_spec("onnxruntime") is None, reason="the extra export is not installed")


@pytest.fixture
def fitted(compose_config, tmp_path):
    """A learner of an untrained run with a support set, and the task that it is of."""

    def make(*overrides):
        cfg = compose_config(tmp_path, *overrides)
        folder, _ = untrained(cfg)
        rows, _ = tasks_of(cfg, count=1)
        learner = FewShotLearner.from_run(folder, trust=TRUST).fit(rows.support_x[0], rows.support_y[0])
        return learner, rows

    return make


QUERIES, EPISODE = [["queries"]], [["support"], ["support", "classes"], ["queries"]]


def exported(name, module, inputs, sizes=QUERIES):
    about = {}
    return FORMATS[name](module, list(zip(inputs, sizes, strict=True)), about), about


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "model"),
    [
        *(
            pytest.param("torch_export", model, marks=[pytest.mark.proof] if model in ALIKE else [])
            for model in MODELS
            if model in BOTH or model not in GRAPHS
        ),
        *(pytest.param("onnx", model, marks=[with_onnx, *([pytest.mark.proof] if model in ALIKE else [])]) for model in GRAPHS),
    ],
)
def test_every_adapted_classifier_computes_the_same_as_a_file(fitted, format, model):
    learner, rows = fitted(f"model={model}", *SHORTER.get(model, ()))
    module, queries = learner.adapt(), rows.query_x[0]
    found, about = exported(format, module, [rows.support_x[0]])
    assert about["sizes"] == {"queries": [1, None]}
    expected = torch.from_numpy(learner.decision_function(queries))
    for compute in found.computes.values():
        assert difference(module, compute, [queries]) < 1e-5  # another number than it was exported with
        torch.testing.assert_close(compute(queries), expected, rtol=1e-3, atol=1e-3)


def members(labels, ways):
    return torch.nn.functional.one_hot(labels, ways).float()


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [["model=protonet"], ["model=protonet", "model.batch_norm=inductive"], ["model=r2d2"]])
def test_the_graph_of_an_episode_takes_other_shots_ways_and_queries(fitted, overrides):
    learner, rows = fitted(*overrides, "model.backbone.filters=8")
    predictor, x, y = learner.predictor, learner.support.x, learner.support.y
    graph = EpisodeGraph(predictor.scale, predictor.model)
    inputs = [x, members(y, 3), torch.cat([x, x])]
    found, about = exported("torch_export", graph, inputs, EPISODE)
    assert about["sizes"]["queries"] == about["sizes"]["classes"] == [1, None]
    assert about["sizes"]["support"] == ([1, 9] if "model=r2d2" in overrides else [1, None])
    pictures = rows.query_x[0]
    labels, (support, queries) = torch.tensor([0, 0, 1, 2, 3]), pictures.split([5, len(pictures) - 5])
    for count in (1, len(queries)):
        computed = found.computes["torch.export"](support, members(labels, 4), queries[:count])
        expected = torch.from_numpy(learner.fit(support, labels).decision_function(queries[:count]))
        torch.testing.assert_close(computed, expected, rtol=1e-4, atol=1e-4)


@with_onnx
@pytest.mark.slow
def test_an_operator_that_onnx_lacks_is_named(fitted):
    learner, _ = fitted("model=r2d2")
    predictor, x, y = learner.predictor, learner.support.x, learner.support.y
    graph = EpisodeGraph(predictor.scale, predictor.model)
    with pytest.raises(UserError, match=r"ONNX has no operator for aten\._linalg_solve_ex; use format=torch_export"):
        exported("onnx", graph, [x, members(y, 3), torch.cat([x, x])], EPISODE)


@pytest.mark.parametrize("model", ["maml", "baseline", "tim"])
def test_a_model_that_takes_gradient_steps_has_no_graph_of_an_episode(fitted, model):
    predictor = fitted(f"model={model}", *SHORTER.get(model, ()))[0].predictor
    with pytest.raises(UserError, match="episode=true needs a model that compares"):
        EpisodeGraph(predictor.scale, predictor.model)


class Branching(torch.nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_what_torch_export_cannot_take_is_one_line():
    with pytest.raises(UserError, match=r"torch\.export cannot take this network \(.+\); use format=safetensors"):
        exported("torch_export", Branching().eval(), [torch.ones(2, 3)])


def test_a_state_outside_of_the_tensors_is_seen():
    class Hidden(torch.nn.Module):
        """Its factor is neither parameter nor buffer."""

        def __init__(self):
            super().__init__()
            self.layer, self.factor = torch.nn.Linear(3, 2), [torch.ones(())]

        def forward(self, x):
            return self.factor[0] * self.layer(x)

    module = Hidden().eval()
    found, _ = exported("safetensors", module, [torch.ones(2, 3)])
    assert difference(module, found.computes["safetensors"], [torch.ones(2, 3)]) == 0
    module.factor[0].mul_(2)
    assert difference(module, found.computes["safetensors"], [torch.ones(2, 3)]) > 1e-4


@pytest.fixture
def trained(compose_config, tmp_path):
    """A folder with a run of a network, its temperature and results, and a support folder; and the images."""
    cfg = compose_config(tmp_path, "model=anil")
    untrained(cfg)
    (tmp_path / "run/calibration.json").write_text(json.dumps({"temperature": 1.5}))
    (tmp_path / "run/results.json").write_text(json.dumps(RESULTS))
    rows, _ = tasks_of(cfg, count=1)
    for number, (x, label) in enumerate(zip(rows.query_x[0], rows.query_y[0], strict=True)):
        folder = tmp_path / "support" / ("zoë", "cat", "a b")[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[0].numpy()).save(folder / f"{number}.png")
    return tmp_path, rows.query_x[0]


def run_export(folder, *overrides):
    places = (f"run={folder / 'run'}", f"support={folder / 'support'}", f"out={folder / 'out/model'}")
    return main("export.py", *places, "trust=[tests]", f"hydra.run.dir={folder / 'log'}", *overrides)


@pytest.mark.slow
def test_the_command_writes_a_program_with_its_metadata(trained):
    folder, images = trained
    done = run_export(folder)
    assert done.code == 0, done.err
    assert "torch.export: differs from the model by 0.0e+00 at the most, on the 12 examples" in done.out
    files = {"fewshot.json": ""}
    program = torch.export.load(folder / "out/model", extra_files=files)
    about = json.loads(files["fewshot.json"])
    assert about["classes"] == ["a b", "cat", "zoë"]
    assert about["input"] == {"shape": [1, 16, 16], "dtype": "uint8"}
    assert (about["temperature"], about["protocol"]) == (1.5, RESULTS["protocol"])
    paths = sorted((folder / "support").rglob("*.png"))
    learner = FewShotLearner.from_run(folder / "run", trust=TRUST).fit(paths, [path.parent.name for path in paths])
    probabilities = (program.module()(images) / about["temperature"]).softmax(dim=1)
    np.testing.assert_allclose(probabilities.detach(), learner.predict_proba(images), atol=1e-4)


def test_safetensors_hold_the_adapted_tensors(trained):
    folder, _ = trained
    assert run_export(folder, "format=safetensors").code == 0
    tensors, metadata = read_tensors(folder / "out/model")
    assert json.loads(metadata["fewshot"])["classes"] == ["a b", "cat", "zoë"]
    paths = sorted((folder / "support").rglob("*.png"))
    module = FewShotLearner.from_run(folder / "run", trust=TRUST).adapt(paths, [path.parent.name for path in paths])
    weights = dict(module.named_parameters())
    assert weights.keys() < tensors.keys()
    assert torch.equal(tensors["network.network.head.weight"], weights["network.network.head.weight"])


@pytest.mark.slow
def test_a_file_that_computes_something_else_is_not_written(trained, monkeypatch):
    folder, _ = trained
    monkeypatch.setattr(command, "LARGEST_DIFFERENCE", -1.0)
    done = run_export(folder)
    assert done.code == 2
    assert "differs from the model by" in done.err
    assert "nothing is written" in done.err
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("format=onx", "format=onx is unknown; did you mean 'onnx'?"),
        ("out=.", "is a folder; give the name of a file"),
        ("episode=1", "episode=1 must be true or false"),
        ("support=nowhere", "support=nowhere is missing"),
        ("fromat=onnx", "fromat is no key of this config; did you mean 'format'?"),
    ],
)
def test_mistakes_are_one_line(trained, override, says):
    done = run_export(trained[0], override)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert says in done.err


def test_onnx_without_its_packages_is_one_line(trained, monkeypatch):
    monkeypatch.setattr("fewshot.predict.export_formats.find_spec", lambda _: None)
    done = run_export(trained[0], "format=onnx")
    assert done.code == 2
    assert "format=onnx needs onnx, which is not installed; make extras" in done.err
