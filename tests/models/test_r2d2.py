"""R2-D2 and its ridge regression, against scikit-learn's and finite differences."""

import pytest
import torch
from sklearn.linear_model import Ridge

from fewshot.errors import UserError
from fewshot.models.r2d2 import R2D2
from fewshot.models.ridge import ridge_weights
from tests.models.model_tester import ModelTester, sgd, small_backbone


def make(**changes):
    options = {"backbone": small_backbone(), "batch_norm": "running", "optimizer": sgd, "penalty": 1.0, "scale": 5.0}
    return R2D2(**(options | changes))


class TestR2D2(ModelTester):
    def make(self, **changes):
        return make(**changes)


@pytest.mark.parametrize("rows", [3, 8, 20], ids=["fewer-rows", "as-many", "more-rows"])
def test_weights_are_those_of_scikit_learn(rows):
    generator = torch.Generator().manual_seed(rows)
    inputs, targets = (torch.randn(2, rows, width, generator=generator, dtype=torch.float64) for width in (8, 3))
    weights = ridge_weights(inputs, targets, 0.7)
    for x, y, found in zip(inputs, targets, weights, strict=True):
        expected = Ridge(alpha=0.7, fit_intercept=False, solver="svd").fit(x.numpy(), y.numpy()).coef_.T
        torch.testing.assert_close(found, torch.from_numpy(expected.copy()), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rows", [2, 6])
def test_weights_can_be_differentiated(rows):
    inputs, targets = (torch.randn(2, rows, width, dtype=torch.float64, requires_grad=True) for width in (4, 3))
    penalty = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ridge_weights, (inputs, targets, penalty))


def test_a_constant_feature_is_the_intercept():
    """By hand: one image at 0 of each class leaves nothing but the intercept, 1 / (2 + 2 * penalty)."""
    model = make(penalty=2.0, scale=8.0)
    zeros = torch.zeros(1, 2, 3)
    outputs = model.compare(zeros, torch.tensor([[0, 1]]), torch.ones(1, 1, 3))
    assert outputs.flatten().tolist() == pytest.approx([8 / 6, 8 / 6])


def test_penalty_and_scale_are_learned():
    model = make()
    names = {name for name, parameter in model.network.named_parameters() if parameter.requires_grad}
    assert {"regression.log_penalty", "regression.scale"} <= names


@pytest.mark.parametrize("key", ["penalty", "scale"])
def test_what_must_be_positive_is(key):
    with pytest.raises(UserError, match=rf"model\.{key}=0 must be a number greater than 0"):
        make(**{key: 0})
