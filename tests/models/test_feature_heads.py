"""Heads on frozen features: each against scikit-learn, task by task."""

import numpy as np
import pytest
import torch
from sklearn.covariance import EmpiricalCovariance
from sklearn.linear_model import LogisticRegression as Logistic
from sklearn.linear_model import RidgeClassifier as Ridge

from fewshot.backbones.backbone import Backbone
from fewshot.backbones.pretrained_backbone import Preprocessing, PretrainedBackbone
from fewshot.errors import UserError
from fewshot.models.logistic import LogisticRegression
from fewshot.models.mahalanobis import Mahalanobis
from fewshot.models.ridge_classifier import RidgeClassifier
from fewshot.runtime.features import warn_of_random_features
from fewshot.tasks.batch import TaskBatch, TaskRows
from tests.models.model_tester import DECLARED, sgd

WAYS, QUERIES = 3, 4


class Identity(Backbone):
    """Its inputs are features."""

    def __init__(self, features):
        super().__init__()
        self.input_shape, self.out_features = (features,), features
        self.weight = torch.nn.Parameter(torch.ones(features))

    def forward(self, x):
        return x * self.weight


def tasks(shots, features, count=2, ways=WAYS):
    """Classes that overlap, of unequal sizes where there are several shots."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.arange(ways).repeat_interleave(shots), torch.zeros(shots - 1, dtype=torch.int64)]).sort().values
    query_y = torch.arange(ways).repeat_interleave(QUERIES)
    means = torch.randn(count, ways, features, generator=generator)
    support, query = (means[:, y] + torch.randn(count, len(y), features, generator=generator) for y in (labels, query_y))
    return TaskBatch(
        support, labels.repeat(count, 1), query, query_y.repeat(count, 1),
        TaskRows(torch.arange(count), class_id=torch.arange(ways).repeat(count, 1)),
    )  # fmt: skip


def of_every_class(outputs, scale):
    """Of two classes, scikit-learn has one output, for the second."""
    return scale * np.stack([-outputs, outputs], axis=1) if outputs.ndim == 1 else outputs


def logistic(x, y, query):
    model = Logistic(C=2.0, tol=1e-10, max_iter=10_000).fit(x, y)
    return of_every_class(model.decision_function(query), 0.5)


def ridge(x, y, query):
    """scikit-learn's targets are -1 and 1."""
    return 10 * (of_every_class(Ridge(alpha=0.5).fit(x, y).decision_function(query), 1) + 1) / 2


def mahalanobis(x, y, query):
    """scikit-learn's covariances divide by the number of rows."""
    outputs = []
    for label in np.unique(y):
        own = x[y == label]
        k = len(own)
        of_class = EmpiricalCovariance().fit(own).covariance_ * k / (k - 1) if k > 1 else 0
        of_all = EmpiricalCovariance().fit(x).covariance_ * len(x) / (len(x) - 1)
        q = k / (k + 1) * of_class + of_all / (k + 1) + 0.7 * np.eye(x.shape[1])
        rest = query - own.mean(axis=0)
        outputs.append(-(rest @ np.linalg.inv(q) * rest).sum(axis=1) / 2)
    return np.stack(outputs, axis=1)


HEADS = {
    "logistic": (LogisticRegression, {"strength": 2.0}, logistic),
    "ridge": (RidgeClassifier, {"penalty": 0.5, "scale": 10.0}, ridge),
    "mahalanobis": (Mahalanobis, {"penalty": 0.7}, mahalanobis),
}


def make(name, features, normalise=False):
    kind, options, _ = HEADS[name]
    return kind(backbone=Identity(features), normalise=normalise, batch_norm="inductive", optimizer=sgd, **options)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize(("shots", "features"), [(1, 20), (5, 40), (20, 6)])
@pytest.mark.parametrize("ways", [2, WAYS])
@pytest.mark.parametrize("name", HEADS)
def test_outputs_are_those_of_scikit_learn(name, ways, shots, features, normalise):
    """With more features than support rows, and with fewer."""
    model, batch = make(name, features, normalise), tasks(shots, features, ways=ways)
    outputs = model.evaluate(batch)
    assert outputs.shape == (2, 1, ways * QUERIES, ways)
    for task, found in zip(batch, outputs[:, 0], strict=True):
        x, query = (rows.double() for rows in (task.support_x, task.query_x))
        if normalise:
            x, query = (torch.nn.functional.normalize(rows, dim=-1) for rows in (x, query))
        expected = HEADS[name][2](x.numpy(), task.support_y.numpy(), query.numpy())
        if name == "logistic":  # of both, the sum over classes is what the start was: 0
            expected = expected - expected.mean(axis=1, keepdims=True)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", HEADS)
def test_it_is_a_model_without_outer_steps(name):
    model, batch = make(name, 8), tasks(3, 8)
    assert not model.takes_outer_steps
    assert model.description.keys() >= DECLARED
    outputs = model.evaluate(batch)[:, -1]
    alone = torch.cat([model.evaluate(batch.slice(i, i + 1))[:, -1] for i in range(2)])
    torch.testing.assert_close(outputs, alone)
    torch.testing.assert_close(model.adapted(batch.slice(0, 1))(batch.query_x[0]), outputs[0])


def test_features_of_random_weights_are_told_of(caplog):
    model = make("ridge", 8)
    warn_of_random_features(model, "some/run")
    assert not caplog.records
    warn_of_random_features(model, None)
    assert "RidgeClassifier is fitted to features of random weights" in caplog.text
    caplog.clear()
    model.network["features"].pretrained_on = "ImageNet"
    warn_of_random_features(model, None)
    assert not caplog.records


@pytest.mark.parametrize("name", HEADS)
def test_features_that_are_not_finite_give_outputs_that_are_not(name):
    """They are counted and told of; nothing breaks off."""
    model, batch = make(name, 8), tasks(3, 8)
    batch.support_x[0, 0, 0] = torch.nan
    outputs = model.evaluate(batch)
    assert not outputs[0].isfinite().any()
    assert outputs[1].isfinite().all()


def test_separable_classes_and_a_large_strength_come_to_an_end():
    x = torch.eye(3).repeat(1, 4, 1) * 100
    batch = TaskBatch(
        x, torch.arange(3).repeat(1, 4), x, torch.arange(3).repeat(1, 4),
        TaskRows(torch.arange(1), class_id=torch.arange(3)[None]),
    )  # fmt: skip
    model = LogisticRegression(strength=1e4, backbone=Identity(3), normalise=False, batch_norm="inductive", optimizer=sgd)
    outputs = model.evaluate(batch)[0, 0]
    assert outputs.isfinite().all()
    assert (outputs.argmax(dim=-1) == batch.query_y[0]).all()


def test_a_head_of_a_network_that_is_to_be_trained_is_refused():
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 8))
    preprocessing = Preprocessing(32, "bilinear", [0.5] * 3, [0.5] * 3)
    backbone = PretrainedBackbone((3, 32, 32), network, "own", "own", preprocessing, train=["2.*"])
    with pytest.raises(UserError, match=r"train=\['2\.\*'\], but this model fits a head alone"):
        RidgeClassifier(0.5, 10.0, backbone=backbone, normalise=False, batch_norm="inductive", optimizer=sgd)
