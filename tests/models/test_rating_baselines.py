"""Biases and alternating least squares against closed forms on tiny matrices, and what baselines say of a new user."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from fewshot.backbones.conv4 import Conv4
from fewshot.backbones.items import ItemVectors
from fewshot.errors import UserError
from fewshot.models.factors import biases, item_factors, ridge_by_owner
from fewshot.models.rating_baselines import METHODS, RatingBaseline
from fewshot.objectives import Rating
from fewshot.tasks.batch import RowBlock, TaskBatch, TaskRows

NUMBERS = {"user_penalty": 2.0, "item_penalty": 1.0, "rank": 2, "factor_penalty": 0.5, "penalty": 0.7, "sweeps": 20}
OTHERS = {"batch_norm": "running", "optimizer": partial(torch.optim.Adam, lr=1e-3), "objective": Rating("mae", "min", 0.5, 5.0)}
USERS, ITEMS = 5, 6
NEW = 7
"""An item that nobody in training has rated."""


@pytest.fixture
def ratings():
    """Some of the pairs of five users and six items: users, items, ratings."""
    generator = torch.Generator().manual_seed(3)
    kept = torch.rand(USERS, ITEMS, generator=generator) < 0.7
    user, item = kept.nonzero(as_tuple=True)
    return user, item, torch.randint(1, 6, (len(user),), generator=generator).double()


def make(method, **changes):
    backbone = ItemVectors([4], tokens=16, items=10, width=2, hidden=[])
    return RatingBaseline(backbone, method=method, **(NUMBERS | changes), **OTHERS)


def fitted(method, ratings, **changes):
    user, item, values = ratings
    model = make(method, **changes)
    x = torch.zeros(len(user), 4, dtype=torch.long)
    x[:, 0] = item
    cut = len(user) // 2
    model.fit_rows([RowBlock(x[:cut], values[:cut].float(), user[:cut]), RowBlock(x[cut:], values[cut:].float(), user[cut:])])
    return model


def predicted(model, items, values, asked):
    """Of one new user."""
    support, query = torch.zeros(1, len(items), 4, dtype=torch.long), torch.zeros(1, len(asked), 4, dtype=torch.long)
    support[0, :, 0], query[0, :, 0] = torch.tensor(items), torch.tensor(asked)
    batch = TaskBatch(support, torch.tensor([values]), query, torch.zeros(1, len(asked)), TaskRows(torch.zeros(1)))
    return model.evaluate(batch)[0, 0, :, 0]


def test_biases_are_the_minimum(ratings):
    """The normal equations of both together, solved at once."""
    user, item, values = ratings
    values = values - values.mean()
    design = torch.cat([torch.eye(USERS).double()[user], torch.eye(ITEMS).double()[item]], dim=1)
    penalties = torch.diag(torch.cat([torch.full((USERS,), 2.0), torch.full((ITEMS,), 1.0)]).double())
    expected = torch.linalg.solve(design.T @ design + penalties, design.T @ values)
    found = torch.cat(biases(user, item, values, USERS, ITEMS, 2.0, 1.0))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_each_half_of_a_turn_is_ridge_regression(ratings):
    user, item, values = ratings
    inputs = torch.randn(ITEMS, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = ridge_by_owner(user, inputs[item], values, USERS, 0.7)
    for number in range(USERS):
        rows = user == number
        expected = Ridge(alpha=0.7, fit_intercept=False).fit(inputs[item[rows]].numpy(), values[rows].numpy()).coef_
        np.testing.assert_allclose(found[number], expected, rtol=1e-8)


def test_factors_of_a_whole_matrix_are_its_singular_vectors_shrunk():
    """With all ratings known, the minimum of |R - P Q'|^2 + c (|P|^2 + |Q|^2) has the singular values of R, each less c."""
    matrix = torch.randn(USERS, ITEMS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    user, item = torch.ones_like(matrix).nonzero(as_tuple=True)
    factors = item_factors(user, item, matrix.flatten(), USERS, ITEMS, 2, 0.3, 400)
    of_users = ridge_by_owner(user, factors[item], matrix.flatten(), USERS, 0.3)
    left, singular, right = torch.linalg.svd(matrix)
    expected = left[:, :2] * (singular[:2] - 0.3) @ right[:2]
    torch.testing.assert_close(of_users @ factors.T, expected, rtol=0, atol=1e-6)


def test_baselines_by_hand(ratings):
    """A new user of two ratings; an item without training ratings has neither bias nor factors."""
    user, item, values = ratings
    mean = float(values.mean())
    assert predicted(fitted("global_mean", ratings), [0, 1], [5.0, 4.0], [2, NEW]).tolist() == pytest.approx([mean] * 2)
    drawn = mean + (9 - 2 * mean) / (2 + 2)
    assert predicted(fitted("user_mean", ratings), [0, 1], [5.0, 4.0], [2, NEW]).tolist() == pytest.approx([drawn] * 2)
    _, of_items = biases(user, item, values - mean, USERS, ITEMS, 2.0, 1.0)
    own = (9 - 2 * mean - float(of_items[0] + of_items[1])) / (2 + 2)
    expected = [mean + float(of_items[2]) + own, mean + own]
    assert predicted(fitted("item_bias", ratings), [0, 1], [5.0, 4.0], [2, NEW]).tolist() == pytest.approx(expected, abs=1e-5)


def test_what_biases_leave_is_regressed_on_factors(ratings):
    model, plain = fitted("factors", ratings), fitted("item_bias", ratings)
    factors = model.network["features"].table[:, 1:]
    assert factors[NEW].tolist() == [0, 0]
    before = predicted(plain, [0, 1, 3], [5.0, 4.0, 1.0], [0, 1, 3, 2, NEW])
    rest = torch.tensor([5.0, 4.0, 1.0]) - before[:3]
    ridge = Ridge(alpha=0.7, fit_intercept=False).fit(factors[[0, 1, 3]].numpy(), rest.numpy())
    found = predicted(model, [0, 1, 3], [5.0, 4.0, 1.0], [0, 1, 3, 2, NEW])
    np.testing.assert_allclose(found - before, ridge.predict(factors[[0, 1, 3, 2, NEW]].numpy()), atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_a_user_s_queries_change_nothing(ratings, method):
    model = fitted(method, ratings)
    one, other = (predicted(model, [0, 1], [5.0, 4.0], asked) for asked in ([2, 3], [2, 5]))
    assert one[0] == other[0]


def test_items_beyond_the_table_have_nobody_s_bias(ratings):
    """A release may have more movies than the table: what is known of another is not said of them."""
    user, item, values = ratings
    model = fitted("item_bias", ratings)
    x = torch.zeros(3, 4, dtype=torch.long)
    x[:, 0] = torch.tensor([1, 11, 9])  # 11 is 1 beyond the ten rows of the table; nobody has rated 9
    found = model.features(x)
    assert found[0].abs().sum() > 0
    assert found[1:].abs().sum() == 0
    torch.nn.init.ones_((network := ItemVectors([4], tokens=16, items=10, width=2, hidden=[])).item)
    assert network(x).tolist() == [[1, 1], [0, 0], [1, 1]]
    with pytest.raises(UserError, match=r"items=10 .* rated item 15 of the list; set model\.backbone\.items=16"):
        fitted("item_bias", (user, item + 10, values))


def test_mistakes_are_refused():
    with pytest.raises(UserError, match=r"model\.method=mean is unknown"):
        make("mean")
    with pytest.raises(UserError, match=r"model\.penalty=0 must be a number greater than 0"):
        make("factors", penalty=0)
    with pytest.raises(UserError, match="Conv4 takes no rated items; choose model/backbone=items"):
        RatingBaseline(Conv4([1, 16, 16], filters=2), method="factors", **NUMBERS, **OTHERS)
