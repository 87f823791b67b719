"""nDCG against a brute force over permutations; AUROC against scikit-learn."""

from itertools import pairwise, permutations
from math import log2

import pytest
import torch
from sklearn.metrics import roc_auc_score

from fewshot.evaluation.ranking import auroc, ndcg

VALUES = [4.0, 0.5, 3.0, 3.0, 5.0]
PREDICTED = {
    "in order": [5, 1, 3, 2.5, 6],
    "reversed": [1, 6, 3, 2.5, 0],
    "ties": [2, 2, 2, 1, 1],
    "tied pairs": [3, 3, 1, 1, 0],
    "constant": [3, 3, 3, 3, 3],
}


def dcg(values, rows):
    return sum((2**value - 1) / log2(2 + rank) for rank, value in enumerate(values[:rows]))


def by_brute_force(predicted, values, rows):
    """The mean over all orders of the rows that fit the predictions."""
    orders = [o for o in permutations(range(len(values))) if all(predicted[a] >= predicted[b] for a, b in pairwise(o))]
    best = dcg(sorted(values, reverse=True), rows)
    return sum(dcg([values[i] for i in order], rows) for order in orders) / len(orders) / best


@pytest.mark.parametrize("rows", [1, 3, 5, 10])
def test_ndcg_is_the_mean_over_the_orders_of_ties(rows):
    predicted = torch.tensor(list(PREDICTED.values()), dtype=torch.float32)
    found = ndcg(predicted, torch.tensor(VALUES).expand(len(PREDICTED), -1), rows)
    expected = [by_brute_force(of_one, VALUES, rows) for of_one in PREDICTED.values()]
    assert found.tolist() == pytest.approx(expected)
    assert found[0] == 1


def test_ndcg_does_not_depend_on_the_order_of_rows():
    generator = torch.Generator().manual_seed(0)
    predicted, values = torch.randint(0, 3, (4, 10), generator=generator), torch.randint(1, 6, (4, 10), generator=generator)
    order = torch.randperm(10, generator=generator)
    torch.testing.assert_close(ndcg(predicted, values, 5), ndcg(predicted[:, order], values[:, order], 5))


def test_auroc_is_that_of_scikit_learn_with_ties_and_classes_of_any_size():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(6, (4, 3, 30), generator=generator).double()
    positive = torch.rand(4, 3, 30, generator=generator) < torch.tensor([0.1, 0.5, 0.9])[:, None]
    found = auroc(scores.mT.contiguous().mT, positive)  # rows that do not lie side by side in memory
    for place in torch.cartesian_prod(torch.arange(4), torch.arange(3)).tolist():
        expected = roc_auc_score(positive[tuple(place)], scores[tuple(place)])
        assert found[tuple(place)].item() == pytest.approx(expected, rel=1e-12)


def test_auroc_of_a_constant_of_one_class_and_of_what_is_no_number():
    positive = torch.tensor([[True, False, True], [True, True, True], [True, False, True]])
    found = auroc(torch.tensor([[2.0, 2.0, 2.0], [1.0, 2.0, 3.0], [1.0, torch.nan, 2.0]]), positive)
    assert found[0] == 0.5
    assert found[1:].isnan().all()


def test_predictions_that_are_no_numbers_have_no_order():
    found = ndcg(torch.tensor([[2.0, torch.nan, 1.0], [2.0, 3.0, 1.0]]), torch.tensor([[5.0, 1.0, 2.0]] * 2), 3)
    assert found.isnan().tolist() == [True, False]
