"""Losses and scores against scikit-learn, definitions and closed forms."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import t as student
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, mean_absolute_error, r2_score, roc_auc_score

from fewshot.errors import UserError
from fewshot.evaluation.intervals import mean_interval
from fewshot.objectives import NO_CLASS, Classification, Predictions, Rating, Regression

T, B, N = 3, 40, 4


@pytest.fixture
def classified():
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(T, B, N, generator=generator, dtype=torch.float64)
    targets = torch.randint(N, (T, B), generator=generator)  # unequal class sizes: balanced scores differ from plain ones
    return outputs, targets


def test_classification_scores_are_those_of_scikit_learn(classified):
    outputs, targets = classified
    objective = Classification("acc", "max")
    scores = objective.scores(outputs, targets) | objective.scores_after_last(outputs, targets)
    for task in range(T):
        probability, target = outputs[task].softmax(dim=-1).numpy(), targets[task].numpy()
        predicted = probability.argmax(axis=1)
        right = {
            "acc": (predicted == target).mean(),
            "balanced_acc": balanced_accuracy_score(target, predicted),
            "macro_f1": f1_score(target, predicted, average="macro"),
            "auroc": roc_auc_score(target, probability, multi_class="ovr"),
            "nll": log_loss(target, probability),
        }
        for name, value in right.items():
            assert scores[name][task].item() == pytest.approx(value, rel=1e-6), name
    assert scores["balanced_acc"].ne(scores["acc"]).any()


def test_outputs_that_are_not_finite_are_never_right(classified):
    outputs, targets = classified
    outputs, objective = outputs.clone(), Classification("acc", "max")
    before = objective.scores(outputs, targets)["acc"]
    outputs[0, :, 0] = math.nan
    outputs[1, 0] = math.inf
    after = objective.scores(outputs, targets)["acc"]
    final = objective.scores_after_last(outputs, targets)
    assert after[0] == 0
    assert before[1] - after[1] in (0, pytest.approx(1 / B))
    assert after[2] == before[2]
    assert final["balanced_acc"][0] == final["macro_f1"][0] == 0
    assert final["nll"].isfinite().tolist() == [False, False, True]
    assert final["auroc"].isnan().tolist() == [True, True, False]
    assert objective.predict(outputs)[0][0].eq(NO_CLASS).all()


def test_sure_answers_are_told_apart_by_auroc():
    """Of these logits, the softmax in single precision is 1, and equal."""
    outputs, targets = torch.tensor([[[20.0, 0.0], [40.0, 0.0], [30.0, 0.0]]]), torch.tensor([[1, 0, 0]])
    assert Classification("acc", "max").scores_after_last(outputs, targets)["auroc"].item() == 1


def test_calibration_error_by_its_definition(classified):
    outputs, targets = classified
    objective = Classification("acc", "max")
    predicted, probability = objective.predict(outputs)
    right, confidence = (predicted == targets).double().numpy().ravel(), probability.numpy().ravel()
    bins = np.minimum((confidence * 15).astype(int), 14)
    expected = sum(
        abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in range(15) if (bins == b).any()
    )
    task = torch.arange(T).repeat_interleave(B)
    row = torch.zeros_like(task)
    found = objective.pooled_scores(Predictions(task, row, targets.flatten(), predicted.flatten(), probability.flatten()))
    assert found["ece"] == pytest.approx(expected, rel=1e-5)


def test_a_probability_of_zero_is_a_number():
    outputs, targets = torch.tensor([[[0.0, -math.inf], [-math.inf, 0.0]]]), torch.tensor([[0, 0]])
    objective = Classification("acc", "max")
    assert objective.predict(outputs)[0].tolist() == [[0, 1]]
    assert objective.scores(outputs, targets)["acc"].tolist() == [0.5]


def test_classification_losses_and_encoding(classified):
    outputs, targets = classified
    objective = Classification("acc", "max")
    assert objective.losses(outputs, targets)[1, 7] == F.cross_entropy(outputs[1, 7:8], targets[1, 7:8])
    assert objective.loss(outputs[0], targets[0]) == pytest.approx(objective.losses(outputs, targets)[0].mean())
    assert objective.encode(targets, outputs)[2, 5].argmax() == targets[2, 5]
    assert objective.width(7) == 7


def test_regression_scores():
    generator = torch.Generator().manual_seed(1)
    outputs, targets = (torch.randn(T, B, n, generator=generator, dtype=torch.float64) for n in (1, 1))
    targets = targets.squeeze(-1) + torch.arange(T)[:, None]
    objective = Regression("rmse", "min")
    scores = objective.scores(outputs, targets)
    errors = (outputs.squeeze(-1) - targets).numpy()
    np.testing.assert_allclose(scores["mse"], (errors**2).mean(axis=1))
    np.testing.assert_allclose(scores["rmse"], np.sqrt((errors**2).mean(axis=1)))
    assert scores["mae"][0] == pytest.approx(mean_absolute_error(targets[0], outputs[0, :, 0]))
    assert objective.width(5) == 1
    assert objective.loss(outputs[0], targets[0]) == pytest.approx(objective.losses(outputs, targets)[0].mean())
    assert torch.equal(objective.encode(targets, outputs)[..., 0], targets)

    predicted, probability = objective.predict(outputs)
    assert probability.isnan().all()
    one = Predictions(torch.zeros(B), torch.zeros(B), targets[0], predicted[0], probability[0])
    assert objective.pooled_scores(one)["r2"] == pytest.approx(r2_score(targets[0], predicted[0]))
    task = torch.arange(T).repeat_interleave(B)
    perfect = Predictions(task, task, targets.flatten(), targets.flatten(), probability.flatten())
    assert objective.pooled_scores(perfect)["r2"] == 1
    means = targets.mean(dim=1, keepdim=True).expand_as(targets)
    useless = Predictions(task, task, targets.flatten(), means.flatten(), probability.flatten())
    assert objective.pooled_scores(useless)["r2"] == pytest.approx(0)


def test_ratings_are_cut_to_their_scale_and_ranked():
    """By hand: two tasks, the first with a prediction beyond the scale, the second with a constant one."""
    objective = Rating("mae", "min", 0.5, 5.0)
    targets = torch.tensor([[5.0, 3.0, 1.0], [4.0, 2.0, 2.0]])
    outputs = torch.tensor([[9.0, 3.5, 0.0], [3.0, 3.0, 3.0]]).unsqueeze(-1)
    scores = {name: values.tolist() for name, values in objective.scores(outputs, targets).items()}
    assert scores["mae"] == pytest.approx([(0 + 0.5 + 0.5) / 3, 1])
    assert scores["rmse"] == pytest.approx([math.sqrt(0.5 / 3), 1])
    assert objective.predict(outputs)[0].tolist() == [[5.0, 3.5, 0.5], [3.0, 3.0, 3.0]]
    last = {name: values.tolist() for name, values in objective.scores_after_last(outputs, targets).items()}
    assert last["ndcg1"] == pytest.approx([1, (15 + 3 + 3) / 3 / 15])
    assert last["ndcg3_constant"][1] == last["ndcg3"][1]
    assert last["ndcg1_constant"][0] == pytest.approx((31 + 7 + 1) / 3 / 31)
    assert set(last) == set(objective.last_scores)
    task, predicted = torch.arange(2).repeat_interleave(3), objective.predict(outputs)[0].flatten()
    pooled = objective.pooled_scores(Predictions(task, task, targets.flatten(), predicted, predicted))
    assert pooled["rmse_pooled"] == pytest.approx(math.sqrt((0.5 + 3) / 6))
    assert pooled["rmse_pooled_ci95"] == pytest.approx(mean_interval([0.5 / 3, 1]).ci95 / (2 * pooled["rmse_pooled"]))
    assert pooled["r2"] == pytest.approx(1 - 3.5 / (8 + 8 / 3))


def test_the_interval_of_a_pooled_error_is_that_of_leaving_out_tasks():
    """Of tasks that differ in size; the jackknife (Tukey 1958) is another way to the same spread."""
    random = np.random.default_rng(0)
    sizes, n = random.integers(5, 40, 60), 60
    task = torch.arange(n).repeat_interleave(torch.from_numpy(sizes))
    target = torch.full(task.shape, 3.0)
    predicted = target + torch.from_numpy(random.normal(size=len(task)) * (0.3 + task.numpy() % 5 / 4))

    def pooled(kept):
        chosen = (task, task, target, predicted, predicted)
        return Rating("mae", "min", 0.5, 5.0).pooled_scores(Predictions(*(column[kept] for column in chosen)))

    left_out = np.array([pooled(task != one)["rmse_pooled"] for one in range(n)])
    half = student.ppf(0.975, n - 1) * math.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())
    assert pooled(task >= 0)["rmse_pooled_ci95"] == pytest.approx(half, rel=0.05)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rating("mae", "min", 5.0, 1.0), "objective.low=5.0 and objective.high=1.0 must be the ends of a scale"),
        (lambda: Classification("rmse", "min"), "objective.monitor=rmse is no score of classification"),
        (lambda: Classification("acc", "min"), "objective.mode=min but acc is better the other way; set objective.mode=max"),
        (lambda: Regression("acc", "max"), "objective.monitor=acc is no score of regression"),
    ],
)
def test_a_score_that_cannot_decide_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
