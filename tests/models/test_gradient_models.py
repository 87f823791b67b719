"""The methods that adapt by gradient: what every meta-learner must pass, and the traps of each.

MAML and iMAML pass it in the fast tests too, for all their relatives.
"""

from copy import deepcopy
from functools import partial
from typing import ClassVar

import pytest
import torch
from torch import nn

from fewshot.backbones.norm import BatchNorm
from fewshot.errors import UserError
from fewshot.inner.annealing import Annealing
from fewshot.inner.implicit import Implicit
from fewshot.inner.inner_loop import InnerLoop
from fewshot.inner.reptile import Reptile, shuffled_rows
from fewshot.inner.unrolled import Unrolled
from fewshot.models.cavia import CAVIA
from fewshot.models.maml import MAML
from fewshot.models.protomaml import ProtoMAML
from tests.inner.test_reptile import trained as descended
from tests.models.model_tester import QUERIES, SHOTS, STEP, WAYS, ModelTester, random_tasks, sgd, small_backbone
from tests.models.test_maml import make_trainer

LR = 0.05


class GradientModelTester(ModelTester):
    """Subclasses say what is not MAML's."""

    relabels: ClassVar[bool] = False
    kind: ClassVar[type[MAML]] = MAML
    loop: ClassVar[type[InnerLoop]] = Unrolled
    inner: ClassVar[dict[str, object]] = {}
    others: ClassVar[dict[str, object]] = {}

    def make(self, inner=None, **changes):
        loop = self.loop(**({"lr": LR, "steps": 2, "eval_steps": 3} | self.inner | (inner or {})))
        return self.kind(**{
            "backbone": small_backbone(), "ways": WAYS, "eval_ways": WAYS, "inner": loop, "engine": "auto",
            "batch_norm": "transductive", "optimizer": sgd, **self.others, **changes,
        })  # fmt: skip

    @pytest.mark.proof
    @pytest.mark.parametrize("shuffled", [False, True], ids=["true-labels", "shuffled-labels"])
    def test_it_learns_what_can_be_learned(self, toy_data, shuffled):
        """Left to the proofs but for MAML: the outer gradient of each is held against an oracle in every test run."""
        super().test_it_learns_what_can_be_learned(toy_data, shuffled)


class TestMAML(GradientModelTester):
    test_it_learns_what_can_be_learned = ModelTester.test_it_learns_what_can_be_learned


@pytest.mark.slow
class TestFOMAML(GradientModelTester):
    inner: ClassVar = {"first_order": True}

    def test_the_gradient_is_that_of_the_mean_loss(self):
        """By the weights that a task ends with, not by those that it starts from."""
        model, batch = self.trained(dtype=torch.float64), random_tasks(dtype=torch.float64)
        model.zero_grad()
        model.meta_gradient(batch)
        start = dict(model.network.named_parameters())
        layers = dict(model.network.named_modules())
        norms = {name for name in start if isinstance(layers[name.rpartition(".")[0]], BatchNorm)}
        total = dict.fromkeys(start, 0.0)
        for task in batch:
            weights = {name: value.detach().requires_grad_() for name, value in start.items()}
            for x, y in [(task.support_x, task.support_y)] * 2 + [(task.query_x, task.query_y)]:
                loss = nn.functional.cross_entropy(torch.func.functional_call(model.network, weights, x), y)
                slopes = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
                if x is task.support_x:
                    weights = {
                        name: value if name in norms else (value - LR * slopes[name]).detach().requires_grad_()
                        for name, value in weights.items()
                    }
            total = {name: total[name] + slope / len(batch) for name, slope in slopes.items()}
        for name, parameter in start.items():
            torch.testing.assert_close(parameter.grad, total[name], rtol=1e-9, atol=1e-12)


@pytest.mark.slow
class TestANIL(GradientModelTester):
    inner: ClassVar = {"adapt": ["head.*"], "lr": 0.4}


@pytest.mark.slow
class TestBOIL(GradientModelTester):
    inner: ClassVar = {"adapt": ["features.*"]}


@pytest.mark.slow
class TestMetaSGD(GradientModelTester):
    inner: ClassVar = {"rates": "per_element"}


@pytest.mark.slow
class TestMAMLPlusPlus(GradientModelTester):
    inner: ClassVar = {"rates": "per_step", "annealing": Annealing(100, multi_step=0.5, first_order=0.5)}
    others: ClassVar = {"norm_per_step": True}

    @pytest.mark.slow
    def test_the_gradient_is_that_of_the_mean_loss(self, monkeypatch):
        """Once nothing is annealed any more; what is before, the engines' tests hold."""
        monkeypatch.setattr(type(self), "inner", {**self.inner, "annealing": None})
        super().test_the_gradient_is_that_of_the_mean_loss()


@pytest.mark.slow
class TestMetaCurvature(GradientModelTester):
    inner: ClassVar = {"transform": "meta_curvature"}


@pytest.mark.slow
class TestKFO(GradientModelTester):
    inner: ClassVar = {"transform": "kronecker"}


@pytest.mark.slow
class TestReptile(GradientModelTester):
    blind_to_copies: ClassVar = False
    loop: ClassVar = Reptile
    inner: ClassVar = {
        "adapt_norm": True, "lr": 0.02, "batch_size": 5, "eval_batch_size": 5, "steps": 5, "eval_steps": 5,
    }  # fmt: skip

    def test_the_gradient_is_that_of_the_mean_loss(self):
        """It is the mean way back from where a PyTorch optimizer ends, on support and query images alike."""
        model, batch = self.trained(dtype=torch.float64), random_tasks(dtype=torch.float64)
        model.zero_grad()
        model.meta_gradient(batch)
        optimizer, start = partial(self.inner.get("optimizer", torch.optim.SGD), lr=self.inner["lr"]), model.network
        rows = shuffled_rows(batch.index.tolist(), WAYS * (SHOTS + QUERIES), 5, 5)
        ends = [
            descended(
                deepcopy(start), torch.cat([task.support_x, task.query_x]), torch.cat([task.support_y, task.query_y]), *of_task
            )
            for task, *of_task in zip(batch, rows, [optimizer] * len(batch), strict=True)
        ]
        for parameter, *of_tasks in zip(start.parameters(), *ends, strict=True):
            expected = parameter.detach() - torch.stack(of_tasks).mean(dim=0)
            # Adam enlarges what is left of a bias's gradient before a batch norm, which is 0 but for rounding.
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.slow
class TestReptileWithAdam(TestReptile):
    inner: ClassVar = {
        **TestReptile.inner, "lr": 0.01, "optimizer": partial(torch.optim.Adam, betas=(0.0, 0.999))
    }  # fmt: skip

    def test_bfloat16_is_close(self):
        pytest.skip("Adam makes whole steps of gradients that are 0 but for rounding: biases before batch norms")


class TestIMAML(GradientModelTester):
    loop: ClassVar = Implicit
    inner: ClassVar = {"proximal": 1.0, "cg_damping": 1.0, "lr": 0.2, "steps": 5, "eval_steps": 5}

    @pytest.mark.slow
    def test_the_gradient_is_that_of_the_mean_loss(self):
        """Where adaptation ends at a minimum and the system is solved; without kinks, along one direction in all parameters."""
        converged = {"proximal": 300.0, "cg_damping": 0.0, "cg_steps": 30, "lr": 0.002, "steps": 60}
        model, batch = self.built(inner=converged).double(), random_tasks(1, torch.float64)
        for block in model.network.features.blocks[:4]:
            block[2] = nn.Softplus()
        model.zero_grad()
        model.meta_gradient(batch)
        learning, generator = list(model.network.parameters()), torch.Generator().manual_seed(6)
        way = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in learning]
        expected, values = sum((p.grad * w).sum().item() for p, w in zip(learning, way, strict=True)), []
        for sign in (1, -2):  # to one side, and from there to the other
            with torch.no_grad():
                torch._foreach_add_(learning, way, alpha=sign * STEP)
            values.append(model.meta_gradient(batch)[0].mean().item())
        assert expected == pytest.approx((values[0] - values[1]) / (2 * STEP), rel=1e-6)

    def test_bfloat16_is_close(self, monkeypatch):
        """With a pull that outweighs the curvature of the loss, which may be negative for noise."""
        monkeypatch.setattr(type(self), "inner", {**self.inner, "proximal": 10.0, "lr": 0.02})
        super().test_bfloat16_is_close()


@pytest.mark.slow
class TestCAVIA(GradientModelTester):
    kind: ClassVar = CAVIA
    inner: ClassVar = {"adapt": ["*.context"], "lr": 1.0}
    others: ClassVar = {"context": 20, "layer": 4}


@pytest.mark.slow
class TestProtoMAML(GradientModelTester):
    relabels: ClassVar[bool] = True
    kind: ClassVar = ProtoMAML
    inner: ClassVar = {"lr": 0.05}


def with_gradient(model, batch):
    """The model after one meta-gradient, and the parameters after one step of adaptation to the first task."""
    model.zero_grad()
    model.meta_gradient(batch)
    return {name: parameter.grad for name, parameter in model.network.named_parameters()}


def adapted(model, batch):
    """Which parameters differ after three steps of adaptation to the first task, by name."""
    engine = model.engine_for(batch)
    weights = engine.fast_weights(engine.kind, engine.network)
    before, *_, after = (weights.weights(fast) for fast in weights.gradient_descent(weights.prepared(batch.slice(0, 1)), 3))
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize(("tester", "part", "other"), [(TestANIL, "head", "features"), (TestBOIL, "features", "head")])
def test_the_part_that_tasks_leave_alone_is_learned_across_them(tester, part, other):
    """ANIL's body and BOIL's head receive no inner gradient, but the outer one, and not the one without adaptation."""
    model, batch = tester().trained(), random_tasks()
    changed = adapted(model, batch)
    assert changed
    assert all(name.startswith(f"{part}.") for name in changed)
    outer = with_gradient(model, batch)
    assert all(gradient is not None and gradient.any() for name, gradient in outer.items() if name.endswith("weight"))
    plain = model.network(batch.query_x[0])
    loss = nn.functional.cross_entropy(plain, batch.query_y[0])
    name = next(name for name in outer if name.startswith(f"{other}.") and name.endswith("weight"))
    (unadapted,) = torch.autograd.grad(loss, model.network.get_parameter(name))
    assert not torch.allclose(outer[name], unadapted, rtol=1e-2)


def test_rates_of_meta_sgd_may_become_negative():
    """Nothing holds them back: gradient descent takes them below 0, and a negative rate ascends."""
    model, batch = TestMetaSGD().built(), random_tasks()
    optimizer = torch.optim.SGD(model.rates.parameters(), lr=100.0)
    for _ in range(3):
        optimizer.zero_grad()
        model.meta_gradient(batch)
        optimizer.step()
    assert min(rate.min().item() for rate in model.rates.learned) < 0
    with torch.no_grad():
        for rate in model.rates.learned:
            rate.fill_(-0.01)
    path = model.engine_for(batch).adaptation_path(batch.with_inputs(batch.support_x, batch.support_x), 1)
    before, after = (
        nn.functional.cross_entropy(path[:, step].flatten(0, 1), batch.support_y.flatten()).item() for step in (0, 1)
    )
    assert after > before


def test_mamlpp_evaluates_by_its_learned_rates_and_norms():
    model, batch = TestMAMLPlusPlus().trained(), random_tasks()
    before = model.evaluate(batch)
    with torch.no_grad():
        model.rates.learned[0][1] *= 2
    assert torch.equal(model.evaluate(batch)[:, :2], before[:, :2]), "the first step is as it was"
    assert not torch.equal(model.evaluate(batch)[:, 2], before[:, 2])
    with torch.no_grad():
        model.rates.learned[0][1] /= 2
        for norm in (module for module in model.network.modules() if isinstance(module, BatchNorm)):
            norm.weight[1] *= 2
    assert torch.equal(model.evaluate(batch)[:, :2], before[:, :2])
    assert not torch.equal(model.evaluate(batch)[:, 2], before[:, 2])


def test_mamlpp_learns_rates_and_norms_of_every_step_and_adapts_no_norm():
    model, batch = TestMAMLPlusPlus().trained(), random_tasks()
    outer = with_gradient(model, batch)
    norms = [name for name in outer if outer[name].shape == (2, 6) and ".1." in name]
    assert len(norms) == 8
    assert all(outer[name].any(dim=1).all() for name in norms), "each step's"
    assert not set(norms) & adapted(model, batch)
    # A bias before a batch norm has no gradient, so that its rate has none.
    assert (model.rates.learned[0].grad != 0).sum(dim=0).ge(2).sum() >= 6


def test_derivatives_are_annealed_by_the_trainers_step(toy_data, tmp_path, monkeypatch):
    """First order in the first half of a training, second in the other."""
    asked, original = [], Unrolled.second_order

    def watched(self, outer_step):
        asked.append((outer_step, original(self, outer_step)))
        return asked[-1][1]

    monkeypatch.setattr(Unrolled, "second_order", watched)
    model = TestMAMLPlusPlus().built(inner={"annealing": Annealing(4, multi_step=0.5, first_order=0.5)}, optimizer=sgd)
    make_trainer(tmp_path, max_steps=4, limit_val_batches=0).fit(model, toy_data())
    assert set(asked) == {(0, False), (1, False), (2, True), (3, True)}


def test_the_context_is_all_that_a_task_of_cavia_changes_and_no_one_learns_it():
    model, batch = TestCAVIA().trained(), random_tasks()
    assert adapted(model, batch) == {"features.blocks.3.2.0.context"}
    context = model.network.get_parameter("features.blocks.3.2.0.context")
    assert not context.any()
    assert not context.requires_grad
    assert with_gradient(model, batch)["features.blocks.3.2.0.context"] is None
    assert with_gradient(model, batch)["features.blocks.3.2.0.generator.weight"].any()


def test_proto_maml_begins_as_a_prototypical_network():
    """Before adaptation its outputs are negative squared distances to the class means, up to a number for each query."""
    model, batch = TestProtoMAML().trained(dtype=torch.float64), random_tasks(dtype=torch.float64)
    outputs = model.evaluate(batch)[:, 0]
    for t, task in enumerate(batch):
        rows, queries = (model.network.features(x).detach() for x in (task.support_x, task.query_x))
        means = torch.stack([rows[task.support_y == k].mean(dim=0) for k in range(WAYS)])
        distances = torch.cdist(queries, means).square()
        offset = outputs[t] + distances
        torch.testing.assert_close(offset, offset[:, :1].expand_as(offset))


def test_the_outer_gradient_flows_through_the_prototypes():
    """Even to first order and with no way through the steps, the body learns by where the head began."""
    model, batch = TestProtoMAML().trained(inner={"first_order": True}), random_tasks()
    whole = with_gradient(model, batch)
    engine = model.engine_for(batch)
    task_init = engine.task_init
    engine.task_init = lambda x, y: {name: value.detach() for name, value in task_init(x, y).items()}
    cut = with_gradient(model, batch)
    name = "features.blocks.0.0.weight"
    assert not torch.allclose(whole[name], cut[name], rtol=1e-2)
    assert "head.weight" not in {name for name, gradient in whole.items() if gradient is not None}


def test_proto_maml_tells_apart_as_many_classes_as_a_task_has():
    model = TestProtoMAML().built(ways=2, eval_ways=3)
    assert model.evaluate(random_tasks()).shape[-1] == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inner": {"adapt": ["features.*"]}}, "model.inner.adapt=['features.*'] leaves out the head, which proto-MAML begins"),
        ({"inner": {"rates": "per_element"}, "eval_ways": 2}, "data.eval.ways=2 but the inner loop learns rates or transforms"),
    ],
)
def test_proto_maml_refuses_what_its_head_cannot(change, message):
    with pytest.raises(UserError) as error:
        TestProtoMAML().built(**change)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("tester", "said"),
    [
        (TestMAML, {"order": 2, "outer_gradient": "unrolled", "inner_optimizer": "SGD", "norm_per_step": False}),
        (TestFOMAML, {"order": 1}),
        (TestANIL, {"adapt": ["head.*"]}),
        (TestMAMLPlusPlus, {"inner_rates": "per_step", "norm_per_step": True}),
        (TestKFO, {"inner_transform": "kronecker"}),
        (TestReptileWithAdam, {"order": 1, "outer_gradient": "displacement", "inner_optimizer": "Adam", "adapt_norm": True}),
        (TestIMAML, {"outer_gradient": "implicit"}),
    ],
)
def test_the_protocol_says_what_was_done(tester, said):
    assert said.items() <= tester().built(name="of this name").description.items()
    assert tester().built(name="of this name").description["model"] == "of this name"


def test_what_the_outer_loop_learns_is_counted():
    """Rates with the network; neither a context nor the place of a head that tasks bring."""
    maml, rates, cavia, proto = (
        tester().built().description["parameters"] for tester in (TestMAML, TestMetaSGD, TestCAVIA, TestProtoMAML)
    )
    norms, generator, head = 4 * 2 * 6, 20 * 12 + 12, 6 * WAYS + WAYS
    assert rates == maml + (maml - norms)
    assert cavia == maml + generator
    assert proto == maml - head


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["functional", "vectorized", "learn2learn"])
@pytest.mark.parametrize("tester", [TestMAMLPlusPlus, TestCAVIA, TestProtoMAML, TestMetaCurvature])
def test_every_engine_computes_the_same(tester, engine):
    batch, results = random_tasks(dtype=torch.float64), []
    for name in (engine, "auto"):
        model = tester().trained(dtype=torch.float64, engine=name)
        model.zero_grad()
        results.append([*model.meta_gradient(batch), model.evaluate(batch)])
        results[-1] += [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)
