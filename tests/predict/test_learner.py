"""The predictor says what an evaluation says, of every algorithm, and takes what users bring."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fewshot import FewShotLearner
from fewshot.errors import UserError
from tests.runs import tasks_of, untrained

CONFIGS = Path(__file__).parents[2] / "configs"
MODELS = sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml") if not path.stem.startswith("_"))
FIXED = {"maml", "fomaml", "anil", "boil", "metasgd", "mamlpp", "metacurvature", "kfo", "cavia", "imaml", "reptile"}
TRUST = ("tests",)
SHORTER = {"tim": ["model.iterations=20"], "baseline": ["model.epochs=10"], "baselinepp": ["model.epochs=10"]}


@pytest.fixture
def run(compose_config, tmp_path):
    """The folder of an untrained run, its config and its model."""

    def make(*overrides):
        cfg = compose_config(tmp_path, *overrides)
        folder, model = untrained(cfg)
        return folder, cfg, model

    return make


@pytest.mark.parametrize("model", MODELS)
def test_outputs_equal_those_of_an_evaluation_to_the_bit(run, model):
    folder, cfg, evaluated = run(f"model={model}", *SHORTER.get(model, ()))
    rows, scaled = tasks_of(cfg)
    among_others = evaluated.evaluate(scaled)[0, -1].detach()  # stacked tasks round otherwise than one
    expected = evaluated.evaluate(scaled.slice(0, 1))[0, -1].detach()
    torch.testing.assert_close(among_others, expected, rtol=1e-3, atol=1e-3)
    learner = FewShotLearner.from_run(folder, transductive=True, trust=TRUST)
    learner.fit(rows.support_x[0], rows.support_y[0])
    assert torch.equal(torch.from_numpy(learner.decision_function(rows.query_x[0])), expected)
    chosen = expected.argmax(dim=1).numpy()
    assert np.array_equal(learner.predict(rows.query_x[0]), chosen)
    module = learner.adapt()
    torch.testing.assert_close(module(rows.query_x[0]), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_each_query_is_answered_by_itself(run, model):
    folder, cfg, _ = run(f"model={model}", *SHORTER.get(model, ()))
    rows, _ = tasks_of(cfg, count=1)
    x, y = rows.support_x[0], np.array(["b", "a", "ü"])[rows.support_y[0]]
    more = torch.cat([x, rows.query_x[0][:2]])  # unequal numbers of each class
    labels = [*y, "a", "ü"]
    learner = FewShotLearner.from_run(folder, trust=TRUST).fit(more, labels)
    queries = rows.query_x[0]
    together = learner.decision_function(queries)
    alone = np.concatenate([learner.decision_function(query[None]) for query in queries])
    np.testing.assert_allclose(alone, together, rtol=1e-3, atol=1e-4)
    assert learner.classes_.tolist() == ["a", "b", "ü"]
    np.testing.assert_allclose(learner.predict_proba(queries).sum(axis=1), 1, rtol=1e-5)
    torch.testing.assert_close(learner.adapt()(queries), torch.from_numpy(together), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("model", MODELS)
def test_more_classes_than_in_training(run, model):
    folder, cfg, _ = run(f"model={model}", *SHORTER.get(model, ()))
    rows, _ = tasks_of(cfg, count=1)
    x, y = rows.query_x[0], np.arange(len(rows.query_x[0])) % 5
    learner = FewShotLearner.from_run(folder, trust=TRUST)
    if model in FIXED:
        with pytest.raises(UserError, match=r"5 classes, but this .* tells at most 3 apart"):
            learner.fit(x, y)
    else:
        assert learner.fit(x, y).decision_function(x).shape == (len(x), 5)
