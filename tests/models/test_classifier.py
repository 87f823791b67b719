"""Models prepared by classification: Baseline, Baseline++, SimpleShot, TIM."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid

from fewshot.errors import UserError
from fewshot.models.baseline import DECAY, Baseline
from fewshot.models.checkpoint_entry import shapes_of
from fewshot.models.classifier import Cosines, classes_of
from fewshot.models.simpleshot import SimpleShot
from fewshot.models.tim import TIM
from tests.models.model_tester import CLASSES, SHOTS, WAYS, ModelTester, random_tasks, sgd, small_backbone


def baseline(**changes):
    options = {
        "backbone": small_backbone(), "classes": CLASSES, "batch_norm": "running", "optimizer": sgd, "epochs": 20,
        "batch_size": 4, "lr": 0.01,
    }  # fmt: skip
    return Baseline(**(options | changes))


def simpleshot(**changes):
    options = {"backbone": small_backbone(), "classes": CLASSES, "batch_norm": "running", "optimizer": sgd}
    return SimpleShot(**(options | changes))


def tim(**changes):
    options = {
        "backbone": small_backbone(), "classes": CLASSES, "batch_norm": "running", "optimizer": sgd, "iterations": 20,
        "lr": 0.001,
    }  # fmt: skip
    return TIM(**(options | changes))


class ClassifierTester(ModelTester):
    """What classifiers of all training classes have to pass beside the rest."""

    steps = 300

    def make_for(self, classes):
        return self.make(classes=classes)

    def test_the_loss_is_that_over_all_training_classes(self):
        """The gradient too: that of the classes' cross-entropy, computed image by image with the numbers of the classes."""
        model, batch = self.trained(dtype=torch.float64, label_smoothing=0.0), random_tasks(dtype=torch.float64)
        losses, outputs, *_ = model.meta_gradient(batch)
        with torch.no_grad(), model.in_training(batch):
            support, query = model.embed(batch)
            logits = model.network["classifier"](torch.cat([support, query], dim=1))
        assert logits.shape[-1] == CLASSES
        for task in range(len(batch)):
            numbers = [
                batch.rows.class_id[task, label]
                for labels in (batch.support_y, batch.query_y)
                for label in labels[task].tolist()
            ]
            expected = F.cross_entropy(logits[task], torch.stack(numbers))
            assert losses[task].item() == pytest.approx(expected.item())
            torch.testing.assert_close(outputs[task], logits[task, WAYS * SHOTS :, batch.rows.class_id[task]])

    def test_labels_are_smoothed_as_in_pytorch(self):
        model, batch = self.built(label_smoothing=0.2), random_tasks()
        losses, *_ = model.meta_gradient(batch)
        with torch.no_grad(), model.in_training(batch):
            logits = model.network["classifier"](torch.cat(model.embed(batch), dim=1))
        labels = torch.cat([batch.support_y, batch.query_y], dim=1)
        for task, classes in enumerate(batch.rows.class_id):
            expected = F.cross_entropy(logits[task], classes[labels[task]], label_smoothing=0.2)
            torch.testing.assert_close(losses[task], expected)

    def test_tasks_without_classes_are_refused(self):
        batch = random_tasks()
        unknown = replace(batch, rows=replace(batch.rows, class_id=None))
        with pytest.raises(UserError, match="these tasks have none"):
            self.built().meta_gradient(unknown)


class TestBaseline(ClassifierTester):
    relabels = False
    blind_to_copies = False
    """Its heads start from one draw and take mini-batches."""

    def make(self, **changes):
        return baseline(**changes)


class TestBaselinePlusPlus(ClassifierTester):
    relabels = False
    blind_to_copies = False
    learning_rate = 0.02

    def make(self, **changes):
        return baseline(cosine=True, **({"epochs": 100} | changes))


class TestSimpleShot(ClassifierTester):
    def make(self, **changes):
        return simpleshot(**changes)


class TestTIM(ClassifierTester):
    def make(self, **changes):
        return tim(**changes)


def features(images=5, width=6, tasks=2):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(tasks, 3 * images, width, generator=generator, dtype=torch.float64)
    labels = torch.arange(3).repeat_interleave(images).repeat(tasks, 1)
    return x, labels, torch.randn(tasks, 7, width, generator=generator, dtype=torch.float64)


def test_a_head_fitted_long_enough_is_scikit_learns():
    """Full batches, many epochs: the minimum of mean cross-entropy + decay / 2 |weights, biases|^2.

    scikit-learn leaves the intercept out of the penalty, so it is given as a constant feature here and there.
    """
    x, labels, query = features()
    x, query = F.pad(x, (0, 1), value=1.0), F.pad(query, (0, 1), value=1.0)
    outputs = baseline(epochs=4000, batch_size=15, lr=5.0).compare(x, labels, query)
    for task in range(2):
        # The head has a bias beside the constant feature, and both are penalised: together they are one of twice the weight.
        both = np.concatenate([x[task].numpy(), np.ones((15, 1))], axis=1)
        reference = LogisticRegression(C=1 / (DECAY * 15), fit_intercept=False, tol=1e-10, max_iter=10**5)
        reference.fit(both, labels[task].numpy())
        expected = reference.predict_proba(np.concatenate([query[task].numpy(), np.ones((7, 1))], axis=1))
        np.testing.assert_allclose(outputs[task].softmax(dim=-1).numpy(), expected, rtol=1e-3, atol=1e-4)


def test_the_descent_is_the_published_one():
    """One task's head by PyTorch's layers and optimizer, image by image in the order that the model draws."""
    x, labels, query = features(tasks=1)
    outputs = baseline(epochs=2, batch_size=4).compare(x, labels, query)
    random = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(6, 3).double()
    with torch.no_grad():
        head.weight.copy_((2 * torch.rand(3, 6, generator=random, dtype=torch.float64) - 1) / 6**0.5)
        head.bias.zero_()
    optimizer = torch.optim.SGD(head.parameters(), lr=0.01, momentum=0.9, dampening=0.9, weight_decay=0.001)
    for _ in range(2):
        order = torch.randperm(15, generator=random)
        for rows in (order[:4], order[4:8], order[8:12], order[12:]):
            optimizer.zero_grad()
            F.cross_entropy(head(x[0, rows]), labels[0, rows]).backward()
            optimizer.step()
    torch.testing.assert_close(outputs[0], head(query[0]).detach())


def test_cosines_know_no_length_of_features():
    x, labels, query = features()
    model = baseline(cosine=True)
    torch.testing.assert_close(model.compare(x, labels, query), model.compare(3 * x, labels, 5 * query))


@pytest.mark.parametrize(("classes", "factor"), [(200, 2), (201, 10)])
def test_cosines_are_the_published_layer(classes, factor):
    """PyTorch's ``weight_norm`` without bias on features of length 1, times 2 up to 200 classes and 10 beyond."""
    layer = Cosines(6, classes)
    reference = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(6, classes, bias=False), dim=0)
    with torch.no_grad():
        layer.magnitude.mul_(torch.linspace(0.5, 2, classes))
        reference.parametrizations.weight.original0.copy_(layer.magnitude[:, None])
        reference.parametrizations.weight.original1.copy_(layer.weight)
    x = torch.randn(4, 6)
    torch.testing.assert_close(layer(x), factor * reference(F.normalize(x, dim=-1)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(Cosines(6, classes).magnitude.square().mean(), torch.tensor(1 / 3), rtol=0.2, atol=0)


def test_the_descent_of_cosines_is_the_published_one():
    """One task's direction and magnitude by PyTorch's ``weight_norm`` and optimizer."""
    x, labels, query = features(tasks=1)
    outputs = baseline(epochs=2, batch_size=15, cosine=True).compare(x, labels, query)
    random = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(6, 3, bias=False).double()
    with torch.no_grad():
        head.weight.copy_((2 * torch.rand(3, 6, generator=random, dtype=torch.float64) - 1) / 6**0.5)
    head = torch.nn.utils.parametrizations.weight_norm(head, dim=0)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.01, momentum=0.9, dampening=0.9, weight_decay=0.001)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(2 * head(F.normalize(x[0], dim=-1)), labels[0]).backward()
        optimizer.step()
    torch.testing.assert_close(outputs[0], (2 * head(F.normalize(query[0], dim=-1))).detach())


@pytest.mark.parametrize("transform", ["un", "l2n", "cl2n"])
def test_simpleshot_is_the_nearest_centroid_of_scikit_learn(transform):
    x, labels, query = features()
    model = simpleshot(transform=transform).double()
    centre = torch.linspace(-1, 1, 6, dtype=torch.float64)
    model.centre = centre

    def transformed(values):
        values = values - centre.numpy() if transform == "cl2n" else values
        return values if transform == "un" else values / np.linalg.norm(values, axis=-1, keepdims=True)

    predicted = model.compare(x, labels, query).argmax(dim=-1)
    for task in range(2):
        reference = NearestCentroid().fit(transformed(x[task].numpy()), labels[task].numpy())
        assert predicted[task].tolist() == reference.predict(transformed(query[task].numpy())).tolist()


def test_simpleshots_centre_is_the_running_mean_of_training_features():
    """After one step a tenth of the step's mean, after two nine tenths of that and a tenth of the next."""
    model = TestSimpleShot().built()
    means = []
    for seed in range(2):
        batch = random_tasks(seed=seed)
        with torch.no_grad(), model.in_training(batch):
            means.append(torch.cat(model.embed(batch), dim=1).mean(dim=(0, 1)))
        _, _, *seen = model.meta_gradient(batch)
        model.move_averages(*seen)
    torch.testing.assert_close(model.centre.detach(), 0.9 * 0.1 * means[0] + 0.1 * means[1])


def test_tim_starts_from_the_class_means():
    x, labels, query = features()
    outputs = tim(iterations=0).compare(x, labels, query)
    z, q = F.normalize(x, dim=-1), F.normalize(query, dim=-1)
    means = z.view(2, 3, 5, 6).mean(dim=2)
    torch.testing.assert_close(outputs, -7.5 * (q[:, :, None] - means[:, None]).square().sum(dim=-1))


def test_tim_takes_the_published_steps():
    """Equation 4 written out for one task, by PyTorch's automatic derivative."""
    x, labels, query = features(tasks=1)
    outputs = tim(iterations=5, lr=0.01).compare(x, labels, query)
    z, q = F.normalize(x[0], dim=-1), F.normalize(query[0], dim=-1)
    weights = z.view(3, 5, 6).mean(dim=1).requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=0.01)
    for _ in range(5):
        answers = (-7.5 * (q[:, None] - weights).square().sum(dim=-1)).softmax(dim=-1)
        of_support = F.cross_entropy(-7.5 * (z[:, None] - weights).square().sum(dim=-1), labels[0])
        mean = answers.mean(dim=0)
        objective = 0.1 * of_support + (mean * mean.log()).sum() - 0.1 * (answers * answers.log()).sum(dim=-1).mean()
        optimizer.zero_grad()
        objective.backward()
        optimizer.step()
    torch.testing.assert_close(outputs[0], -7.5 * (q[:, None] - weights.detach()).square().sum(dim=-1))


def test_a_classifier_comes_back_without_its_training_split(tmp_path):
    """For `eval.py`, which opens the tested split alone."""
    trained = TestSimpleShot().trained()
    checkpoint = {
        "state_dict": trained.state_dict(),
        "fewshot": {
            "schema": 1,
            "model": "SimpleShot",
            "shapes": shapes_of(trained.network),
            "skipped_steps": 0,
            "max_steps": 1,
            "val_metrics": {},
        },
    }
    torch.manual_seed(5)
    other = simpleshot(classes=classes_of(checkpoint)).eval()
    other.on_load_checkpoint(checkpoint)
    other.load_state_dict(checkpoint["state_dict"])
    batch = random_tasks()
    assert torch.equal(other.evaluate(batch), trained.evaluate(batch))


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (baseline, {"epochs": 0}, r"model\.epochs=0 must be a whole number"),
        (baseline, {"lr": -1}, r"model\.lr=-1 must be a number greater than 0"),
        (simpleshot, {"transform": "c2ln"}, r"model\.transform=c2ln is unknown; did you mean 'cl2n'\?"),
        (tim, {"label_smoothing": 1.0}, r"model\.label_smoothing=1\.0 must be at least 0 and less than 1"),
    ],
)
def test_what_makes_no_sense_is_refused(make, changes, message):
    with pytest.raises(UserError, match=message):
        make(**changes)
