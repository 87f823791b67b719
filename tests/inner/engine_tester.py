"""What every engine has to pass: a new one inherits all of it by naming itself."""

from functools import cache
from typing import ClassVar

import pytest
import torch
from torch import nn

from fewshot.backbones.conv4 import Conv4
from fewshot.backbones.film import modulate_
from fewshot.backbones.mlp import MLP
from fewshot.backbones.norm import BatchNorm
from fewshot.inner.annealing import Annealing
from fewshot.inner.engine import engine_kind
from fewshot.inner.unrolled import Unrolled
from fewshot.tasks.batch import TaskBatch, TaskRows
from tests.differences import require_slopes
from tests.pairs import pairwise

WAYS, SHOTS, QUERIES = 3, 2, 2
NETWORKS = {
    "conv4": lambda: Conv4((1, 16, 16), filters=3, downsample="max_pool"),
    "conv4-stride": lambda: Conv4((1, 16, 16), filters=3, downsample="stride", global_pool=True),
    "mlp": lambda: MLP((1, 16, 16), hidden=(6, 5)),
}
ORDERS = pytest.mark.parametrize("first_order", [False, True], ids=["second-order", "first-order"])
NORMS = ["transductive", "inductive"]
MODES = pytest.mark.parametrize("batch_norm", NORMS)


def network_of(name):
    """A small network with weights away from their start, in float64."""
    torch.manual_seed(1)
    backbone = NETWORKS[name]()
    network = nn.Sequential(backbone, nn.Linear(backbone.out_features, WAYS)).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def smooth_network():
    """Without kinks and batch norms, for what holds in a limit only, in float64."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 5), nn.Tanh(), nn.Linear(5, WAYS)).double()


def random_tasks(tasks=2):
    generator = torch.Generator().manual_seed(2)

    def images(rows):
        return torch.rand(tasks, rows, 1, 16, 16, generator=generator, dtype=torch.float64)

    def labels(of_each):
        return torch.arange(WAYS).repeat_interleave(of_each).repeat(tasks, 1)

    return TaskBatch(
        images(WAYS * SHOTS), labels(SHOTS), images(WAYS * QUERIES), labels(QUERIES), TaskRows(torch.arange(tasks))
    )


def gradients(module):
    return [parameter.grad.clone() for parameter in module.parameters() if parameter.requires_grad]


def uneven_rates(inner, network):
    """Learned rates that differ from each other, and one that is negative, and transforms off the identity, in float64."""
    rates = inner.new_rates(network).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for values in rates.learned:
            values.mul_(0.5 + torch.rand(values.shape, generator=generator, dtype=values.dtype))
            values.view(-1)[0] *= -1
        for values in rates.transforms.parameters() if rates.transforms is not None else ():
            values.add_(0.3 * torch.randn(values.shape, generator=generator, dtype=values.dtype))
    return rates


def with_norms_for_each_step(network, steps):
    """Scale and shift of the batch norms differ from step to step."""
    generator = torch.Generator().manual_seed(4)
    for norm in network.modules():
        if isinstance(norm, BatchNorm):
            norm.for_each_step(steps)
            with torch.no_grad():
                for values in norm.parameters():
                    values.add_(0.2 * torch.randn(values.shape, generator=generator, dtype=values.dtype))
    return network


def with_context(network, size=4):
    """A context at 0, which no one learns, steers the third block."""
    torch.manual_seed(5)
    modulate_(network[0], layer=3, size=size)
    return network.double()


def with_frozen_head(network):
    """The tasks bring their own: `sums_of_features`."""
    network[1].requires_grad_(False)
    return network


def sums_of_features(network):
    """A head that a task begins with, a differentiable function of its support set and of the body."""

    def task_init(x, y):
        members = torch.nn.functional.one_hot(y, WAYS).to(x.dtype)
        return {"1.weight": members.T @ network[0](x), "1.bias": members.sum(dim=0)}

    return task_init


HOOKS = {
    "meta-curvature": {"transform": "meta_curvature"},
    "kronecker": {"transform": "kronecker"},
    "kronecker, learned rates": {"transform": "kronecker", "rates": "per_step"},
    "proximal": {"proximal": 0.7},
    "all query losses": {"annealing": Annealing(100, multi_step=1.0)},
    "all query losses, some annealed away": {"annealing": Annealing(100, multi_step=0.5)},
    "second order from the start": {"annealing": Annealing(100, multi_step=0.2, first_order=0.25)},
    "norms for each step": {"prepare": with_norms_for_each_step},
    "context": {"prepare": lambda network, _: with_context(network), "adapt": ("*.context",)},
    "task init": {
        "prepare": lambda network, _: with_frozen_head(network), "task_init": sums_of_features, "adapt": ("*", "1.*"),
    },
    "task init, proximal": {
        "prepare": lambda network, _: with_frozen_head(network), "task_init": sums_of_features, "adapt": ("*", "1.*"),
        "proximal": 0.7,
    },
}  # fmt: skip
"""What an inner loop can do beyond plain steps: options of `Unrolled`, and what is done to the network before."""
OUTER_STEP = 30
"""At which annealed loops are looked at: between start and end of their schedules."""


def hooked(name, steps, first_order=False):
    """A network and the options of an engine for one of `HOOKS`."""
    options = dict(HOOKS[name])
    network = options.pop("prepare", lambda network, _: network)(network_of("conv4"), steps)
    task_init = options.pop("task_init", None)
    if first_order and options.get("annealing"):
        pytest.skip("its order is annealed")
    return network, {
        **options,
        "task_init": task_init(network) if task_init else None,
        "steps": steps,
        "first_order": first_order,
    }


def reference(network, *, steps=2, lr=0.3, batch_norm="transductive", task_init=None, **options):
    """The learn2learn engine."""
    inner = Unrolled(lr=lr, steps=steps, eval_steps=steps, **options)
    rates = uneven_rates(inner, network)
    return engine_kind("learn2learn")(network, inner, rates, nn.functional.cross_entropy, batch_norm, task_init)


def all_of(engine, network):
    """Losses, outputs, the path and every gradient of two tasks; None where a parameter has none."""
    batch = random_tasks()
    results = [*engine.meta_gradient(batch, 2, OUTER_STEP), engine.adaptation_path(batch, 4)]
    return results + [p.grad for p in (*network.parameters(), *engine.rates.parameters()) if p.requires_grad]


@cache
def of_reference(name, **options):
    """The same of the learn2learn engine, once for all variants of an engine."""
    network = network_of(name)
    return all_of(reference(network, **options), network)


@cache
def of_reference_with_hooks(name, first_order, batch_norm):
    """The same with hooks."""
    network, options = hooked(name, steps=3, first_order=first_order)
    return all_of(reference(network, batch_norm=batch_norm, lr=0.1, **options), network)


EXACT = {"step": 1e-6, "rel": 1e-8, "abs": 1e-8}
"""How exact central differences are here."""


def outer_loss(engine, batch):
    """What the outer gradient is the gradient of, from the outputs after every step alone."""
    path = engine.adaptation_path(batch, engine.inner.steps)
    total = 0.0
    for step, weight in enumerate(engine.inner.loss_weights(OUTER_STEP)):
        losses = [nn.functional.cross_entropy(outputs, y) for outputs, y in zip(path[:, step + 1], batch.query_y, strict=True)]
        total += weight * torch.stack(losses).mean()
    return total


class Built:
    """Builds the engine that is tested.

    Subclasses set `engine`, the name under which a config asks for it, and perhaps `options` of the inner loop.
    """

    engine: str
    options: ClassVar[dict[str, object]] = {}

    def build(
        self,
        network,
        *,
        steps=2,
        lr=0.3,
        batch_norm="transductive",
        loss=nn.functional.cross_entropy,
        task_init=None,
        **options,
    ):
        inner = Unrolled(lr=lr, steps=steps, eval_steps=steps, **(self.options | options))
        return engine_kind(self.engine)(network, inner, uneven_rates(inner, network), loss, batch_norm, task_init)

    def meta_gradient(self, network, batch, tasks=None, **options):
        network.zero_grad()
        losses, outputs = self.build(network, **options).meta_gradient(batch, tasks or len(batch))
        return losses, outputs, gradients(network)


class ComparedTester(Built):
    """What every engine but the reference has to pass: it equals the reference."""

    @pairwise(
        first_order=[False, True], batch_norm=NORMS, adapt=["*", "1.*", "0.*"], rates=["fixed", "per_step", "per_element"]
    )
    def test_it_equals_learn2learn_whatever_is_adapted_at_whatever_rates(self, first_order, batch_norm, adapt, rates):
        options = {"first_order": first_order, "batch_norm": batch_norm, "adapt": (adapt,), "rates": rates, "steps": 3}
        network, expected = network_of("conv4"), of_reference("conv4", **options)
        for a, b in zip(all_of(self.build(network, **options), network), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)

    @pairwise(name=HOOKS, first_order=[False, True], batch_norm=NORMS)
    def test_it_equals_learn2learn_with_hooks(self, name, first_order, batch_norm):
        network, options = hooked(name, steps=3, first_order=first_order)
        found = all_of(self.build(network, batch_norm=batch_norm, lr=0.1, **options), network)
        for a, b in zip(found, of_reference_with_hooks(name, first_order, batch_norm), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)

    @ORDERS
    def test_it_equals_learn2learn_in_single_precision(self, first_order):
        network, batch = network_of("mlp").float(), random_tasks()
        batch = batch.with_inputs(batch.support_x.float(), batch.query_x.float())
        found = []
        for engine in (self.build(network, first_order=first_order), reference(network, first_order=first_order)):
            network.zero_grad()
            engine.meta_gradient(batch, 2)
            found.append(torch.cat([gradient.flatten() for gradient in gradients(network)]))
        assert (found[0] - found[1]).norm() <= 1e-5 * found[1].norm()

    @ORDERS
    @pytest.mark.parametrize("task_chunk", [None, 1])
    def test_single_precision_is_as_exact_as_learn2learns(self, task_chunk, first_order):
        """On sparse images, whose background is constant, and with no ReLU, whose sign a rounding could decide."""
        network, tasks = network_of("conv4-stride").float(), random_tasks()
        for block in list(network[0].blocks)[:4]:
            block[2] = nn.Softplus()
        sparse = [(x.repeat(1, 1, 1, 3, 3) < 0.05).double() for x in (tasks.support_x, tasks.query_x)]
        found = []
        for build, dtype in ((reference, torch.float64), (reference, torch.float32), (self.build, torch.float32)):
            network = network.to(dtype)
            network.zero_grad()
            options = {} if build is reference else {"task_chunk": task_chunk}
            batch = tasks.with_inputs(*(x.to(dtype) for x in sparse))
            build(network, first_order=first_order, **options).meta_gradient(batch, 2)
            found.append(torch.cat([gradient.flatten().double() for gradient in gradients(network)]))
        exact, theirs, ours = found
        assert (ours - exact).norm() <= 4 * (theirs - exact).norm() + 1e-6 * exact.norm()


class LoopTester(Built):
    """What any engine has to pass, the reference too."""

    def test_annealing_of_the_order_ends_first_order(self):
        """Before its end the gradient is FOMAML's, from then on MAML's."""
        batch, options = random_tasks(), {"annealing": Annealing(100, first_order=0.25)}
        for outer_step, first_order in ((0, True), (24, True), (25, False), (99, False)):
            network = network_of("conv4")
            self.build(network, **options).meta_gradient(batch, 2, outer_step)
            found = gradients(network)
            _, _, expected = self.meta_gradient(network_of("conv4"), batch, first_order=first_order)
            for a, b in zip(found, expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)

    @ORDERS
    def test_bf16_is_close(self, first_order):
        network, batch = network_of("conv4-stride").float(), random_tasks()
        batch = batch.with_inputs(batch.support_x.float(), batch.query_x.float())
        found = []
        for mixed in (False, True):
            network.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                losses, _ = self.build(network, first_order=first_order, lr=0.05).meta_gradient(batch, 2)
            assert all(parameter.grad.dtype == torch.float32 for parameter in network.parameters())
            found.append((losses.mean().item(), torch.cat([gradient.flatten() for gradient in gradients(network)])))
        assert found[1][0] == pytest.approx(found[0][0], rel=0.01)
        assert torch.cosine_similarity(found[0][1], found[1][1], dim=0) > 0.99

    @pairwise(name=NETWORKS, first_order=[False, True], batch_norm=NORMS, adapt_norm=[False, True])
    def test_gradient_equals_the_inner_loop_written_out(self, name, first_order, batch_norm, adapt_norm):
        """An independent inner loop over ``torch.func``: same losses, outputs and gradients."""
        network, batch = network_of(name), random_tasks()
        losses, outputs, gradient = self.meta_gradient(
            network, batch, steps=2, first_order=first_order, adapt_norm=adapt_norm, batch_norm=batch_norm
        )
        parameters = {name: parameter.detach().clone().requires_grad_() for name, parameter in network.named_parameters()}
        expected_losses = []
        for t, task in enumerate(batch):
            adapted = dict(parameters)
            for _ in range(2):
                loss = nn.functional.cross_entropy(torch.func.functional_call(network, adapted, task.support_x), task.support_y)
                moving = [key for key in adapted if adapt_norm or not is_norm(network, key)]
                slopes = torch.autograd.grad(loss, [adapted[key] for key in moving], create_graph=not first_order)
                adapted |= {key: adapted[key] - 0.3 * slope for key, slope in zip(moving, slopes, strict=True)}
            expected = query_outputs(network, adapted, task, batch_norm)
            torch.testing.assert_close(outputs[t], expected.detach(), rtol=1e-10, atol=1e-12)
            expected_losses.append(nn.functional.cross_entropy(expected, task.query_y))
        mean = torch.stack(expected_losses).mean()
        torch.testing.assert_close(losses.mean(), mean.detach(), rtol=1e-10, atol=1e-12)
        for computed, slope in zip(gradient, torch.autograd.grad(mean, list(parameters.values())), strict=True):
            torch.testing.assert_close(computed, slope, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("steps", [1, 2, 3])
    @ORDERS
    def test_gradient_of_a_line_equals_the_derivation_by_hand(self, steps, first_order):
        r"""One weight w, one support point (x, y), one query point (u, v), squared loss.

        An inner step is w <- w - a * 2x(wx - y) = r w + c with r = 1 - 2a x^2 and c = 2a x y, so that after k steps

            w_k = r^k w + c (1 + r + ... + r^(k-1))   and   d w_k / d w = r^k.

        The query loss is (u w_k - v)^2; its derivative by w is 2u(u w_k - v) r^k, to first order 2u(u w_k - v).
        With a = 1/8, x = 1, y = 3, w = 1: r = c = 3/4, so w_1 = 3/4 + 3/4, w_2 = 9/8 + 3/4, w_3 = 45/32 + 3/4.
        """
        weights = {1: 3 / 2, 2: 15 / 8, 3: 69 / 32}
        first = {k: 2 * 2 * (2 * w_k - 1) for k, w_k in weights.items()}  # u = 2, v = 1
        second = {k: slope * (3 / 4) ** k for k, slope in first.items()}
        network = nn.Linear(1, 1, bias=False).double()
        nn.init.ones_(network.weight)
        x, y, u, v = (torch.tensor([[[value]]], dtype=torch.float64) for value in (1.0, 3.0, 2.0, 1.0))
        batch = TaskBatch(x, y, u, v, TaskRows(torch.zeros(1, dtype=torch.int64)))
        losses, outputs, (gradient,) = self.meta_gradient(
            network, batch, steps=steps, first_order=first_order, lr=1 / 8, loss=nn.functional.mse_loss
        )
        assert outputs.item() == 2 * weights[steps]
        assert losses.item() == (2 * weights[steps] - 1) ** 2
        assert gradient.item() == (first if first_order else second)[steps]

    def test_gradients_of_tasks_add_up(self):
        network, batch = network_of("conv4"), random_tasks(3)
        _, _, together = self.meta_gradient(network, batch)
        single = [batch.slice(i, i + 1) for i in range(3)]
        parts = [self.meta_gradient(network, task, tasks=3)[2] for task in single]
        for whole, *of_each in zip(together, *parts, strict=True):
            torch.testing.assert_close(whole, sum(of_each), rtol=1e-10, atol=1e-13)

    def test_gradients_are_added_to_what_is_there(self):
        network, batch = network_of("mlp"), random_tasks()
        engine = self.build(network)
        engine.meta_gradient(batch, 2)
        once = gradients(network)
        engine.meta_gradient(batch, 2)
        for a, b in zip(once, gradients(network), strict=True):
            torch.testing.assert_close(2 * a, b, rtol=1e-12, atol=1e-14)

    @MODES
    def test_the_path_begins_unadapted_and_ends_where_training_ends(self, batch_norm):
        network, batch = network_of("conv4"), random_tasks()
        _, outputs, _ = self.meta_gradient(network, batch, steps=3, batch_norm=batch_norm)
        with torch.no_grad():
            path = self.build(network, steps=3, batch_norm=batch_norm).adaptation_path(batch, 3)
        assert path.shape == (2, 4, WAYS * QUERIES, WAYS)
        torch.testing.assert_close(path[:, -1], outputs, rtol=1e-10, atol=1e-12)
        before = [query_outputs(network, dict(network.named_parameters()), task, batch_norm) for task in batch]
        torch.testing.assert_close(path[:, 0], torch.stack(before).detach(), rtol=1e-10, atol=1e-12)

    def test_the_path_leaves_no_trace(self):
        network, batch = network_of("conv4"), random_tasks()
        engine = self.build(network)
        before = {key: value.clone() for key, value in network.state_dict().items()}
        path = engine.adaptation_path(batch, 2)
        assert not path.requires_grad
        assert path.grad_fn is None
        assert all(parameter.grad is None for parameter in network.parameters())
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())

    def test_a_path_of_no_steps_is_the_network_itself(self):
        network, batch = network_of("mlp"), random_tasks()
        path = self.build(network).adaptation_path(batch, 0)
        torch.testing.assert_close(path[:, 0], torch.stack([network(x) for x in batch.query_x]).detach())

    def test_training_leaves_the_network_and_its_buffers_alone(self):
        network, batch = network_of("conv4"), random_tasks()
        before = {key: value.clone() for key, value in network.state_dict().items()}
        self.meta_gradient(network, batch)
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())

    def test_queries_influence_each_other_in_transductive_mode_only(self):
        network, batch = network_of("conv4"), random_tasks()
        changed = batch.query_x.clone()
        changed[:, -1] = 1 - changed[:, -1]
        for mode, same in (("transductive", False), ("inductive", True)):
            engine = self.build(network, batch_norm=mode)
            a, b = (
                engine.adaptation_path(batch.with_inputs(batch.support_x, x), 2)[:, :, :-1] for x in (batch.query_x, changed)
            )
            assert torch.allclose(a, b, rtol=1e-12, atol=1e-12) is same

    def test_float32_agrees_with_float64(self):
        batch = random_tasks()
        _, _, exact = self.meta_gradient(network_of("conv4"), batch)
        single = batch.with_inputs(batch.support_x.float(), batch.query_x.float())
        _, _, rounded = self.meta_gradient(network_of("conv4").float(), single)
        exact, rounded = (torch.cat([g.flatten() for g in gradient]).double() for gradient in (exact, rounded))
        assert (exact - rounded).norm() / exact.norm() < 1e-5


def is_norm(network, key):
    return type(network.get_submodule(key.rpartition(".")[0])).__name__ == "BatchNorm"


def query_outputs(network, parameters, task, batch_norm):
    if batch_norm == "transductive":
        return torch.func.functional_call(network, parameters, task.query_x)
    # One query at a time with the support set, normalised by hand: nothing of the engine's own way is used.
    rows = []
    for query in task.query_x:
        with by_support_alone(network, len(task.support_x)):
            rows.append(torch.func.functional_call(network, parameters, torch.cat([task.support_x, query[None]]))[-1])
    return torch.stack(rows)


class by_support_alone:  # noqa: N801  reads as a phrase
    """Replaces each batch norm's output by one whose statistics come from the first `rows` rows, through forward hooks."""

    def __init__(self, network, rows):
        self.norms = [module for module in network.modules() if type(module).__name__ == "BatchNorm"]
        self.rows = rows

    def __enter__(self):
        self.handles = [norm.register_forward_hook(self.normalise) for norm in self.norms]

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()

    def normalise(self, norm, inputs, _):
        (x,) = inputs
        axes = (0, *range(2, x.ndim))
        first = x[: self.rows]
        mean = first.mean(dim=axes, keepdim=True)
        variance = ((first - mean) ** 2).mean(dim=axes, keepdim=True)
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return (x - mean) / (variance + norm.eps).sqrt() * norm.weight.view(shape) + norm.bias.view(shape)


class DifferencesTester(Built):
    """An engine's gradients are held against finite differences.

    Every test run does so for the reference, which the other engines equal; for these themselves it is left to the proofs.
    """

    @pytest.mark.slow
    @pairwise(steps=[1, 3], name=NETWORKS, adapt_norm=[False, True], batch_norm=NORMS)
    def test_second_order_gradient_equals_finite_differences(self, name, steps, adapt_norm, batch_norm):
        """Of the mean query loss after adaptation."""
        network, batch = network_of(name), random_tasks()
        engine = self.build(network, steps=steps, adapt_norm=adapt_norm, batch_norm=batch_norm, lr=0.05)
        engine.meta_gradient(batch, 2)
        require_slopes(network.named_parameters(), lambda: engine.meta_gradient(batch, 2)[0].mean(), **EXACT)

    @pytest.mark.slow
    @ORDERS
    @pytest.mark.parametrize("rates", ["per_step", "per_element"])
    def test_gradient_by_learned_rates_equals_finite_differences(self, rates, first_order):
        """The last step's rates act on nothing but the query loss, so there the first order is exact as well."""
        network, batch, steps = network_of("conv4"), random_tasks(), 1 if first_order else 2
        engine = self.build(network, steps=steps, lr=0.05, rates=rates, first_order=first_order)
        engine.meta_gradient(batch, 2)
        require_slopes(engine.rates.named_parameters(), lambda: engine.meta_gradient(batch, 2)[0].mean(), **EXACT)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", HOOKS)
    def test_gradient_with_hooks_equals_finite_differences(self, name):
        """In everything that the outer loop learns."""
        network, options = hooked(name, steps=3)
        batch, engine = random_tasks(), self.build(network, lr=0.05, **options)
        engine.meta_gradient(batch, 2, OUTER_STEP)
        learned = [named for part in (network, engine.rates) for named in part.named_parameters() if named[1].requires_grad]
        require_slopes(learned, lambda: outer_loss(engine, batch), **EXACT)


class VariantTester(ComparedTester, LoopTester):
    """What an engine has to pass under any options: it equals the reference, and itself."""
