"""MetaOptNet and its support vector machine, against scikit-learn's and finite differences."""

import warnings

import pytest
import torch
from sklearn.svm import LinearSVC

from fewshot.errors import UserError
from fewshot.models.metaoptnet import MetaOptNet
from fewshot.models.svm import svm_duals
from tests.models.model_tester import ModelTester, sgd, small_backbone


def make(**changes):
    options = {"backbone": small_backbone(), "batch_norm": "running", "optimizer": sgd, "head": "svm"}
    return MetaOptNet(**(options | changes))


class TestSupportVectorMachine(ModelTester):
    blind_to_copies = False
    """More images weigh more against the margin."""
    learning_rate = 0.01

    def make(self, **changes):
        return make(**changes)


class TestRidge(ModelTester):
    blind_to_copies = False
    learning_rate = 0.01

    def make(self, **changes):
        return make(head="ridge", regularisation=1.0, **changes)


class TestSmoothedLabels(ModelTester):
    blind_to_copies = False
    learning_rate = 0.01

    def make(self, **changes):
        return make(label_smoothing=0.1, **changes)

    def test_the_loss_is_that_of_pytorch(self):
        outputs, targets = torch.randn(2, 6, 3), torch.randint(3, (2, 6))
        expected = torch.nn.functional.cross_entropy(
            outputs.flatten(0, 1), targets.flatten(), reduction="none", label_smoothing=0.1
        )
        torch.testing.assert_close(make(label_smoothing=0.1).training_losses(outputs, targets).flatten(), expected)


def support(tasks=3, ways=4, shots=3, features=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(tasks, ways * shots, features, generator=generator, dtype=torch.float64)
    labels = torch.arange(ways).repeat_interleave(shots).repeat(tasks, 1)
    return x, labels, torch.nn.functional.one_hot(labels).double()


def primal(x, labels, weights, cost):
    """What the machine minimises, at weights ``(D, N)``."""
    scores = x @ weights
    margins = 1 + scores - scores.gather(1, labels[:, None])
    margins.scatter_(1, labels[:, None], 0)
    return (weights.square().sum() / 2 + cost * margins.amax(dim=1).sum()).item()


@pytest.mark.parametrize("cost", [0.02, 0.1, 1.0, 10.0])
@pytest.mark.parametrize(("shots", "features"), [(1, 6), (3, 6), (3, 40)], ids=["one-shot", "few-features", "many-features"])
def test_the_classifier_is_that_of_scikit_learn(cost, shots, features):
    x, labels, members = support(shots=shots, features=features)
    alpha = svm_duals(x @ x.mT, members, cost)
    assert (alpha <= cost * members + 1e-9).all()
    torch.testing.assert_close(alpha.sum(dim=-1), torch.zeros_like(alpha[..., 0]), atol=1e-9, rtol=0)
    for task in range(len(x)):
        machine = LinearSVC(
            multi_class="crammer_singer", C=cost, fit_intercept=False, tol=1e-10, max_iter=10**6, random_state=0
        )
        machine.fit(x[task].numpy(), labels[task].numpy())
        reference = torch.from_numpy(machine.coef_.T.copy())
        found = x[task].mT @ alpha[task]
        torch.testing.assert_close(found, reference, rtol=1e-4, atol=1e-5)
        assert primal(x[task], labels[task], found, cost) <= primal(x[task], labels[task], reference, cost) * (1 + 1e-5)


def test_the_duality_gap_is_closed():
    """The primal objective of the weights equals minus the dual one of the variables, which bounds it from below."""
    x, labels, members = support(shots=5, features=64)
    alpha = svm_duals(x @ x.mT, members, 0.1)
    for task in range(len(x)):
        weights = x[task].mT @ alpha[task]
        dual = -(weights.square().sum() / 2 + ((1 - members[task]) * alpha[task]).sum()).item()
        assert primal(x[task], labels[task], weights, 0.1) == pytest.approx(dual, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("features", [6, 40])
def test_the_optimum_can_be_differentiated(features):
    """Central differences of what is computed from the weights, away from where a variable reaches its bound."""
    x, _, members = support(tasks=2, features=features, seed=1)
    x.requires_grad_()
    probe = torch.randn(2, 5, features, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    weighing = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def figure(values):
        return ((probe @ values.mT @ svm_duals(values @ values.mT, members, 0.1)) * weighing).sum()

    (gradient,) = torch.autograd.grad(figure(x), x)
    for i in range(0, x.numel(), 7):
        step = torch.zeros_like(x).flatten()
        step[i] = 1e-5
        step = step.view_as(x)
        with torch.no_grad():
            slope = (figure(x + step) - figure(x - step)).item() / 2e-5
        assert gradient.flatten()[i].item() == pytest.approx(slope, rel=1e-3, abs=1e-5)


def test_copies_of_an_image_leave_the_classifier_determined():
    x, _, members = support(shots=2)
    rows = torch.arange(8).repeat_interleave(2)
    alpha = svm_duals(x @ x.mT, members, 0.2)
    twice = svm_duals(x[:, rows] @ x[:, rows].mT, members[:, rows], 0.1)
    torch.testing.assert_close(x[:, rows].mT @ twice, x.mT @ alpha, rtol=1e-6, atol=1e-7)


def test_features_of_any_size_are_solved():
    """From nearly nothing to what a wide network's last layer may give."""
    for size in (1e-4, 1e-2, 1.0, 1e2, 1e4):
        x, labels, members = support(features=16)
        x = size * x
        alpha = svm_duals(x @ x.mT, members, 0.1)
        for task in range(len(x)):
            weights = x[task].mT @ alpha[task]
            dual = -(weights.square().sum() / 2 + ((1 - members[task]) * alpha[task]).sum()).item()
            assert primal(x[task], labels[task], weights, 0.1) == pytest.approx(dual, rel=1e-5, abs=1e-9)


def test_an_unknown_head_is_refused():
    with pytest.raises(UserError, match=r"model\.head=swm is unknown; did you mean 'svm'\?"):
        make(head="swm")


def test_nothing_is_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x, _, members = support()
        svm_duals(x @ x.mT, members, 0.1)
