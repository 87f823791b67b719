"""The predictor among scikit-learn's tools: clones, pipelines, cross-validation, and the checks that make sense."""

import numpy as np
import pytest
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

from fewshot import FewShotLearner
from tests.predict.test_learner import ON_WAVES
from tests.runs import tasks_of, untrained

SIZE = "it fits rows of two to ten numbers, and a run's rows have a size of their own"
OTHER_ERROR = "it asks for an error of scikit-learn's own, or for one that the size of the rows comes before"
DO_NOT_APPLY = {
    **dict.fromkeys([
        "fit_score_takes_y", "estimators_overwrite_params", "dont_overwrite_parameters", "estimators_fit_returns_self",
        "readonly_memmap_input", "n_features_in_after_fitting", "positive_only_tag_during_fit", "estimators_dtypes",
        "dtype_object", "pipeline_consistency", "estimators_pickle", "f_contiguous_array_estimator", "supervised_y_2d",
        "classifier_data_not_an_array", "classifiers_classes", "classifiers_train", "decision_proba_consistency",
        "methods_sample_order_invariance", "methods_subset_invariance", "dict_unchanged", "fit_idempotent", "n_features_in",
        "fit_check_is_fitted", "fit2d_predict1d", "regressors_train", "regressor_data_not_an_array", "regressors_int",
    ], SIZE),
    **dict.fromkeys([
        "estimators_unfitted", "estimators_empty_data_messages", "estimators_nan_inf", "classifiers_regression_target",
        "fit2d_1sample", "fit2d_1feature",
    ], OTHER_ERROR),
    "classifiers_one_label": "one class alone tells nothing apart, and is refused",
    "regressors_no_decision_function": "one class classifies and regresses: decision_function gives the outputs of both",
    "fit1d": "a list of numbers is rows of one number, where a run's rows are that",
}  # fmt: skip
"""Checks of scikit-learn, without their `check_`: why it does not pass them."""
PASSED = {
    "estimator_cloneable", "estimator_tags_renamed", "valid_tag_types", "estimator_repr", "no_attributes_set_in_init",
    "do_not_raise_errors_in_init_or_set_params", "complex_data", "estimator_sparse_tag", "estimator_sparse_array",
    "estimator_sparse_matrix", "supervised_y_no_nan", "parameters_default_constructible", "get_params_invariance",
    "set_params", "requires_y_none",
}  # fmt: skip


@pytest.fixture(scope="module")
def fitted(compose_config, tmp_path_factory):
    """A learner, and a task's support set and queries as flattened rows."""
    cfg = compose_config(tmp_path_factory.mktemp("run"), "model=protonet", "model.backbone.filters=16")
    folder, _ = untrained(cfg, spoilt=0)
    rows, _ = tasks_of(cfg, count=1)
    x, y = rows.query_x[0].flatten(1).numpy(), rows.query_y[0].numpy()
    return FewShotLearner.from_run(folder, trust=("tests",)), x, y


@pytest.fixture(scope="module")
def regression(compose_config, tmp_path_factory):
    """A learner of an untrained run on sine waves, and rows and values of one of its tasks."""
    cfg = compose_config(tmp_path_factory.mktemp("run"), "model=anil", *ON_WAVES)
    folder, _ = untrained(cfg)
    rows, _ = tasks_of(cfg, count=1)
    return FewShotLearner.from_run(folder), rows.query_x[0].numpy(), rows.query_y[0].numpy()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Estimator FewShotLearner does not inherit")
@pytest.mark.parametrize("kind", ["fitted", "regression"])
def test_it_passes_the_checks_of_scikit_learn_that_apply(kind, request):
    learner = request.getfixturevalue(kind)[0]
    expected = {f"check_{name}": reason for name, reason in DO_NOT_APPLY.items()}
    found = check_estimator(clone(learner), expected_failed_checks=expected, on_skip=None, on_fail=None)
    assert [check for check in found if check["status"] == "failed"] == []
    assert {check["check_name"].removeprefix("check_") for check in found if check["status"] == "passed"} >= PASSED
    with pytest.raises(ValueError, match=r"no support set yet; call fit"):
        clone(learner).predict(request.getfixturevalue(kind)[1])


def test_a_regression_is_cloned_and_cross_validated_too(regression):
    learner, x, y = regression
    assert is_regressor(learner)
    scores = cross_val_score(clone(learner), x, y, cv=KFold(2))
    half = len(x) // 2
    halves = [(slice(half, None), slice(half)), (slice(half), slice(half, None))]
    assert scores.tolist() == [clone(learner).fit(x[fit], y[fit]).score(x[ask], y[ask]) for fit, ask in halves]
    pipeline = make_pipeline(FunctionTransformer(lambda rows: -rows), clone(learner)).fit(-x, y)
    assert np.array_equal(pipeline.predict(-x), learner.fit(x, y).predict(x))


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


@pytest.mark.filterwarnings("ignore:Estimator FewShotLearner does not inherit")
def test_two_classes_are_ranked_by_one_number(fitted):
    learner, x, y = fitted
    two = y < 2
    x, y = x[two], np.array(["b", "a"])[y[two]]
    learner.fit(x, y)
    assert np.array_equal(learner.classes_[(learner.decision_function(x) > 0).astype(int)], learner.predict(x))
    areas = cross_val_score(clone(learner), x, y, cv=2, scoring="roc_auc")
    assert np.isfinite(areas).all()


@pytest.mark.parametrize("kind", ["fitted", "regression"])
def test_labels_that_do_not_fit_are_refused_and_not_broadcast(kind, request):
    """A column of labels would be compared with every prediction."""
    learner, x, y = request.getfixturevalue(kind)
    learner.fit(x, y)
    with pytest.raises(ValueError, match="y has shape"):
        learner.score(x, y[:, None])
    if kind == "fitted":
        with pytest.raises(ValueError, match="y has names, and the classes of the support set are numbers"):
            learner.score(x, y.astype(str))
    else:
        assert learner.score(x, np.ones(len(x))) == 0.0  # as scikit-learn has it of equal values


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda x, y: (x[:, :5], y), "X has 5 features, but FewShotLearner is expecting 256"),
        (lambda x, y: (x[:0], y[:0]), "0 samples"),
        (lambda x, y: (x, y[:3]), "one label for each"),
        (lambda x, _: (x, None), "fit requires y to be passed, but the target y is None"),
        (lambda x, y: (x, y * 0), "has 1 class, 0"),
        (lambda x, y: (x / np.float32("nan"), y), "NaN"),
        (lambda x, y: (x * 1.5, y), "give uint8 from 0 to 255, or floats from 0 to 1"),
        (lambda x, y: (x, y + 0.5), "continuous"),
        (lambda x, y: (x * 1j, y), "Complex data not supported"),
        (lambda x, y: (x, np.array([None, *y[1:]])), "labels of several kinds"),
    ],
)
def test_bad_input_is_a_value_error(fitted, spoil, says):
    learner, x, y = fitted
    with pytest.raises(ValueError, match=says):
        clone(learner).fit(*spoil(x, y))
