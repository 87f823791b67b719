"""What every meta-learner has to pass: a new one inherits all of it by saying how it is made."""

import io
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar

import pytest
import torch

from fewshot.backbones.conv4 import Conv4
from fewshot.data.meta_batches import Share
from fewshot.models.all_reduce import average_over_tasks
from fewshot.models.base import MetaLearner
from fewshot.tasks.batch import TaskBatch, TaskRows
from tests.differences import require_slopes
from tests.ranks import in_processes
from tests.toy import Toy

WAYS, SHOTS, QUERIES, CLASSES = 3, 2, 4, 10
DECLARED = {
    "model", "engine", "backbone", "batch_norm", "transductive", "adapt", "eval_steps", "parameters", "forward_multiply_adds",
}  # fmt: skip

STEP = 1e-7
"""Of finite differences: larger ones meet kinks of ReLU and max-pooling, smaller ones rounding."""


def small_backbone():
    return Conv4((1, 16, 16), filters=6, downsample="stride")


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.5)


def random_tasks(tasks=3, dtype=torch.float32, seed=0):
    """Tasks of noise."""
    generator = torch.Generator().manual_seed(seed)
    support, query = (
        torch.rand(tasks, WAYS * of_each, 1, 16, 16, generator=generator, dtype=torch.float64).to(dtype)
        for of_each in (SHOTS, QUERIES)
    )
    labels = [torch.arange(WAYS).repeat_interleave(of_each).repeat(tasks, 1) for of_each in (SHOTS, QUERIES)]
    classes = torch.stack([torch.randperm(CLASSES, generator=generator)[:WAYS] for _ in range(tasks)])
    rows = TaskRows(torch.arange(tasks), class_id=classes)
    return TaskBatch(support, labels[0], query, labels[1], rows)


def relabelled(batch, order):
    """The same tasks with class `k` called ``order[k]``."""
    inverse = order.argsort()
    return TaskBatch(
        batch.support_x, order[batch.support_y], batch.query_x, order[batch.query_y],
        TaskRows(batch.index, class_id=batch.rows.class_id[:, inverse]),
    )  # fmt: skip


def outer_step(model, optimizer, batch):
    """What `MetaLearner.training_step` does, without a trainer; returns the mean loss over all processes."""
    optimizer.zero_grad()
    losses, _, *seen = model.meta_gradient(batch)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    tasks, total = average_over_tasks(parameters, len(batch), losses.sum()[None], seen)
    optimizer.step()
    model.move_averages(*seen)
    return (total / tasks).item()


def optimizer_of(model, make=sgd):
    return make(parameter for parameter in model.parameters() if parameter.requires_grad)


def of_dtype(batch, dtype):
    return batch.with_inputs(batch.support_x.to(dtype), batch.query_x.to(dtype))


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


LOOK, LEARNED = 30, 0.6
"""Outer steps between two looks whether a model has learned the toy problem, and the accuracy that says so; chance is 1/3."""
TRAINED = {}
"""States of models that are trained already."""


class ModelTester(ABC):
    """Subclasses say with `make` how their model is made, and where theory promises less than usual."""

    relabels: ClassVar[bool] = True
    """Calling classes otherwise permutes the outputs: no learned head tells its outputs apart."""
    blind_to_copies: ClassVar[bool] = True
    """Every support image twice changes nothing: the support set counts by its means, not by its size."""
    learning_rate: ClassVar[float] = 0.005
    """Of Adam, with which it learns the toy problem."""
    steps: ClassVar[int] = 150
    """Outer steps of 4 tasks that it learns the toy problem in."""

    @abstractmethod
    def make(self, **changes) -> MetaLearner:
        """A small model for tasks of `WAYS` ways; keyword arguments replace its own."""

    def make_for(self, classes) -> MetaLearner:
        """The same for so many training classes, where it has to know."""
        return self.make()

    def built(self, seed=0, **changes):
        torch.manual_seed(seed)
        return self.make(**changes).eval()

    def trained(self, steps=3, dtype=torch.float32, **changes):
        """Away from its start; where nothing is changed, trained once for all tests of a model."""
        model = self.built(**changes).to(dtype)
        kind = (type(self), repr(getattr(self, "inner", None)), steps, dtype)
        if not changes and kind in TRAINED:
            model.load_state_dict(TRAINED[kind])
            return model
        optimizer = optimizer_of(model)
        for step in range(steps):
            outer_step(model, optimizer, random_tasks(dtype=dtype, seed=10 + step))
        if not changes:
            TRAINED[kind] = snapshot(model)
        return model

    def test_it_declares_what_it_is(self):
        description = self.built().description
        assert description.keys() >= DECLARED
        assert description["parameters"] > 0
        assert description["forward_multiply_adds"] > 0

    def test_outputs_have_the_promised_shapes(self):
        model, batch = self.built(), random_tasks()
        losses, outputs, *_ = model.meta_gradient(batch)
        assert losses.shape == (3,)
        assert outputs.shape == (3, WAYS * QUERIES, WAYS)
        assert not losses.requires_grad
        assert not outputs.requires_grad
        path = model.evaluate(batch)
        assert (path.shape[0], *path.shape[2:]) == (3, WAYS * QUERIES, WAYS)

    @pytest.mark.slow
    def test_the_gradient_is_that_of_the_mean_loss(self):
        model, batch = self.trained(dtype=torch.float64), random_tasks(2, torch.float64)
        model.zero_grad()
        model.meta_gradient(batch)
        learning = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        require_slopes(learning, lambda: model.meta_gradient(batch)[0].mean(), STEP, rel=1e-7, abs=1e-7)

    def test_evaluation_leaves_no_trace(self):
        model, batch = self.trained(), random_tasks()
        model.zero_grad()
        before = snapshot(model)
        first = model.evaluate(batch)
        assert torch.equal(model.evaluate(batch), first), "a task's outputs depend on nothing but the task"
        assert same(snapshot(model), before)
        assert all(parameter.grad is None for parameter in model.parameters())

    def test_evaluation_does_not_see_the_queries_labels(self):
        model, batch = self.built(), random_tasks()
        dealt_anew = replace(batch, query_y=batch.query_y.flip(1))
        assert torch.equal(model.evaluate(dealt_anew), model.evaluate(batch))

    def test_the_memory_forecast_leaves_no_trace(self):
        model, batch = self.trained(), random_tasks()
        model.zero_grad()
        before = snapshot(model)
        assert model.memory_forecast(batch).bytes > batch.support_x.nbytes
        assert same(snapshot(model), before)
        assert all(parameter.grad is None for parameter in model.parameters())

    def test_tasks_are_evaluated_alone(self):
        model, batch = self.trained(dtype=torch.float64), random_tasks(dtype=torch.float64)
        alone = torch.cat([model.evaluate(batch.slice(i, i + 1)) for i in range(len(batch))])
        torch.testing.assert_close(model.evaluate(batch), alone, rtol=1e-9, atol=1e-11)

    def test_queries_are_answered_alone_unless_it_says_otherwise(self):
        model, batch = self.trained(dtype=torch.float64), random_tasks(dtype=torch.float64)
        changed = batch.query_x.clone()
        changed[:, -1] = 1 - changed[:, -1]
        a, b = (model.evaluate(batch.with_inputs(batch.support_x, x))[:, -1, :-1] for x in (batch.query_x, changed))
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-11) is not model.description["transductive"]

    def test_other_names_of_the_classes_permute_the_outputs(self):
        if not self.relabels:
            pytest.skip("its outputs are told apart by what it has learned or drawn")
        model, batch = self.trained(dtype=torch.float64), random_tasks(dtype=torch.float64)
        order = torch.tensor([2, 0, 1])
        renamed = model.evaluate(relabelled(batch, order))
        torch.testing.assert_close(renamed[..., order], model.evaluate(batch), rtol=1e-7, atol=1e-9)

    def test_copies_of_the_support_set_change_nothing(self):
        if not self.blind_to_copies:
            pytest.skip("the size of the support set counts")
        model, batch = self.trained(dtype=torch.float64), random_tasks(dtype=torch.float64)
        rows = torch.arange(WAYS * SHOTS).repeat_interleave(2)
        twice = TaskBatch(
            batch.support_x[:, rows], batch.support_y[:, rows], batch.query_x, batch.query_y, batch.rows,
        )  # fmt: skip
        torch.testing.assert_close(model.evaluate(twice), model.evaluate(batch), rtol=1e-7, atol=1e-9)

    def test_a_model_comes_back_from_its_state(self):
        model, batch = self.trained(), random_tasks()
        stored = io.BytesIO()
        torch.save(model.state_dict(), stored)
        stored.seek(0)
        other = self.built(seed=1)
        assert not torch.equal(other.evaluate(batch), model.evaluate(batch))
        other.load_state_dict(torch.load(stored, weights_only=True))
        assert torch.equal(other.evaluate(batch), model.evaluate(batch))

    def test_training_goes_on_bit_by_bit(self):
        batches = [random_tasks(seed=seed) for seed in range(2)]
        whole = self.built()
        optimizer = optimizer_of(whole, torch.optim.Adam)
        for batch in batches:
            outer_step(whole, optimizer, batch)

        first = self.built()
        optimizer = optimizer_of(first, torch.optim.Adam)
        outer_step(first, optimizer, batches[0])
        second = self.built(seed=1)
        second.load_state_dict(first.state_dict())
        other = optimizer_of(second, torch.optim.Adam)
        other.load_state_dict(optimizer.state_dict())
        outer_step(second, other, batches[1])
        assert same(snapshot(second), snapshot(whole))

    def test_bfloat16_is_close(self):
        model, batch = self.trained(), random_tasks()
        results = []
        for mixed in (False, True):
            model.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                losses, *_ = model.meta_gradient(batch)
            gradients = [p.grad.flatten() for p in model.parameters() if p.requires_grad and p.grad is not None]
            results.append((losses.float(), torch.cat(gradients)))
        (exact, gradient), (rounded, rounded_gradient) = results
        assert torch.allclose(exact, rounded, rtol=0.1, atol=0.05)
        assert torch.cosine_similarity(gradient, rounded_gradient, dim=0) > 0.9

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("processes", "size"), [(2, 4), pytest.param(3, 4, marks=pytest.mark.proof)], ids=["even", "uneven"]
    )
    def test_several_processes_equal_one(self, toy_data, tmp_path, processes, size):
        data = toy_data(meta_batch_size=size, shots=SHOTS, queries=QUERIES)
        data.setup("fit")

        def descend(share):
            model = self.built().double()
            optimizer = optimizer_of(model, lambda p: torch.optim.SGD(p, lr=0.002, momentum=0.5))
            batches = data.meta_batches("train", 4 * size, share)
            losses = [outer_step(model, optimizer, of_dtype(data.scaled(batches[i])[0], torch.float64)) for i in range(4)]
            return losses, torch.cat([value.flatten() for value in model.state_dict().values()]).tolist()

        losses, weights = descend(Share())
        for others, seen in in_processes(processes, lambda rank: descend(Share(rank, processes)), tmp_path):
            assert others == pytest.approx(losses, rel=1e-9)
            assert seen == pytest.approx(weights, rel=1e-9, abs=1e-10)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "shuffled", [False, pytest.param(True, marks=pytest.mark.proof)], ids=["true-labels", "shuffled-labels"]
    )
    def test_it_learns_what_can_be_learned(self, toy_data, shuffled):
        """Patterns never seen: far above its start and above chance, and at chance where labels are dealt anew."""
        source, judged = Toy(classes=60), 100 if shuffled else 50
        data = toy_data(source=source, val_tasks=judged, shuffled_labels=shuffled, meta_batch_size=4, queries=QUERIES)
        data.setup("fit")
        torch.manual_seed(0)
        model = self.make_for(60)
        optimizer = optimizer_of(model, lambda p: torch.optim.Adam(p, lr=self.learning_rate))
        batches, tasks = data.meta_batches("train", 4 * self.steps), data.meta_batches("val", judged)

        def accuracy():
            model.eval()
            seen = [data.scaled(tasks[i])[0] for i in range(len(tasks))]
            hits = [(model.evaluate(batch)[:, -1].argmax(dim=-1) == batch.query_y).double().mean(dim=-1) for batch in seen]
            model.train()
            return torch.cat(hits).mean().item()

        for i in range(self.steps):
            if not shuffled and i % LOOK == LOOK - 1 and accuracy() > LEARNED:
                return
            outer_step(model, optimizer, data.scaled(batches[i])[0])
        if shuffled:
            assert accuracy() == pytest.approx(1 / 3, abs=0.06)
        else:
            assert accuracy() > LEARNED, "chance is 0.333"
