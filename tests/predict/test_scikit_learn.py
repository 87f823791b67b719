"""The predictor among scikit-learn's tools: clones, pipelines, cross-validation, and the checks that make sense."""

import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

from fewshot import FewShotLearner
from tests.runs import tasks_of, untrained

PASSED = {
    f"check_{name}"
    for name in (
        *("estimator_cloneable", "estimator_tags_renamed", "valid_tag_types", "estimator_repr", "no_attributes_set_in_init"),
        *("do_not_raise_errors_in_init_or_set_params", "mixin_order", "complex_data", "estimator_sparse_tag", "fit1d"),
        *("estimator_sparse_array", "estimator_sparse_matrix", "supervised_y_no_nan", "parameters_default_constructible"),
        *("get_params_invariance", "set_params"),
    )
}


@pytest.fixture(scope="module")
def fitted(compose_config, tmp_path_factory):
    """A learner, and a task's support set and queries as flattened rows."""
    cfg = compose_config(tmp_path_factory.mktemp("run"), "model=protonet", "model.backbone.filters=16")
    folder, _ = untrained(cfg, spoilt=0)
    rows, _ = tasks_of(cfg, count=1)
    x, y = rows.query_x[0].flatten(1).numpy(), rows.query_y[0].numpy()
    return FewShotLearner.from_run(folder, trust=("tests",)), x, y


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Estimator FewShotLearner does not inherit")
def test_it_passes_the_checks_of_scikit_learn_that_make_sense(fitted):
    """The others fit data of two to five features, and a run's rows have a size of their own, or ask for its own errors."""
    found = {check["check_name"]: check for check in check_estimator(clone(fitted[0]), on_skip=None, on_fail=None)}
    for name in PASSED & found.keys():
        assert found[name]["status"] == "passed", found[name]["exception"]
    with pytest.raises(ValueError, match=r"no support set yet; call fit"):
        clone(fitted[0]).predict(fitted[1])


def test_it_is_cloned_searched_and_put_into_pipelines(fitted):
    learner, x, y = fitted
    assert is_classifier(learner)
    copy = clone(learner)
    assert copy.get_params() == learner.get_params()
    assert copy.fit(x, y).score(x, y) == learner.fit(x, y).score(x, y) > 0.5
    names = np.array(["c", "a", "b"])[y]
    scores = cross_val_score(clone(learner), x, names, cv=2)
    assert scores.shape == (2,)
    assert scores.mean() > 0.4
    pipeline = make_pipeline(FunctionTransformer(lambda rows: rows[:, ::-1].copy()), clone(learner)).fit(x, names)
    assert set(pipeline.predict(x)) <= set(names)
    assert pipeline.classes_.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda x, y: (x[:, :5], y), "X has 5 features, but FewShotLearner is expecting 256"),
        (lambda x, y: (x[:0], y[:0]), "0 samples"),
        (lambda x, y: (x, y[:3]), "one label for each"),
        (lambda x, y: (x, y * 0), "has 1 class, 0"),
        (lambda x, y: (x / np.float32("nan"), y), "NaN"),
        (lambda x, y: (x * 1.5, y), "give uint8 from 0 to 255, or floats from 0 to 1"),
        (lambda x, y: (x, y + 0.5), "continuous"),
        (lambda x, y: (x * 1j, y), "Complex data not supported"),
    ],
)
def test_bad_input_is_a_value_error(fitted, spoil, says):
    learner, x, y = fitted
    with pytest.raises(ValueError, match=says):
        clone(learner).fit(*spoil(x, y))
