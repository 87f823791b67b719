"""Meta-SGD, Meta-Curvature and Meta-KFO against learn2learn's own classes, whole meta-gradients of theirs."""

import pytest
import torch
from learn2learn.algorithms import GBML, MetaSGD
from learn2learn.nn import KroneckerLinear
from learn2learn.optim.transforms import KroneckerTransform, MetaCurvatureTransform
from torch import nn

from fewshot.inner.engine import engine_kind
from fewshot.inner.transforms import Kronecker, MetaCurvature
from fewshot.inner.unrolled import Unrolled
from tests.inner.engine_tester import network_of, random_tasks, uneven_rates

ENGINES = pytest.mark.parametrize("engine", ["functional", "vectorized"])
SHAPES = pytest.mark.parametrize("shape", [(5,), (3, 4), (4, 3, 3, 3), (2, 3, 1, 1)], ids=str)


def built(engine, network, **options):
    inner = Unrolled(lr=0.3, steps=2, eval_steps=2, adapt_norm=True, **options)
    return engine_kind(engine)(network, inner, uneven_rates(inner, network), nn.functional.cross_entropy, "transductive")


def meta_gradient_of_learn2learn(algorithm, batch):
    """Through its own ``clone`` and ``adapt``."""
    for task in batch:
        learner = algorithm.clone()
        for _ in range(2):
            learner.adapt(nn.functional.cross_entropy(learner(task.support_x), task.support_y))
        (nn.functional.cross_entropy(learner(task.query_x), task.query_y) / len(batch)).backward()


@ENGINES
@pytest.mark.parametrize("first_order", [False, True])
def test_meta_sgd(engine, first_order):
    network, batch = network_of("conv4"), random_tasks()
    ours = built(engine, network, rates="per_element", first_order=first_order)
    ours.meta_gradient(batch, 2)
    reference = MetaSGD(network_of("conv4"), first_order=first_order, lrs=nn.ParameterList(
        [nn.Parameter(rate.detach().clone()) for rate in ours.rates.learned]
    ))  # fmt: skip
    meta_gradient_of_learn2learn(reference, batch)
    for a, b in zip([*network.parameters(), *ours.rates.learned], reference.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-12)


def theirs(transform, update):
    """Our factors and learn2learn's names for them, ours as a function of theirs."""
    if isinstance(transform, Kronecker):
        return [(transform.left, update.transform.left, False), (transform.right, update.transform.right, False)]
    if transform._ndim == 1:
        return [(transform.factor, update.mc, False)]
    pairs = [(transform.outputs, update.mc_in, False), (transform.inputs, update.mc_out, True)]
    return pairs + ([(transform.places, update.mc_f, False)] if transform._ndim == 4 else [])


def copy_to(transform, update):
    """Gives learn2learn's transform our factors; it applies that of the inputs from the right, transposed."""
    with torch.no_grad():
        for ours, other, transposed in theirs(transform, update):
            other.set_((ours.mT if transposed else ours).clone().to(ours.dtype))


def reference_of(kind, parameter):
    if kind is MetaCurvature:
        return MetaCurvatureTransform(parameter).double()
    return KroneckerTransform(KroneckerLinear)(parameter).double()


@SHAPES
@pytest.mark.parametrize("kind", [MetaCurvature, Kronecker])
def test_transforms_begin_as_the_identity(kind, shape):
    gradient = torch.randn(2, *shape)
    assert torch.equal(kind(torch.empty(shape))(gradient), gradient)


@SHAPES
@pytest.mark.parametrize("kind", [MetaCurvature, Kronecker])
def test_transforms_are_those_of_learn2learn(kind, shape):
    """For each of several tasks, and for one without a dimension of tasks."""
    torch.manual_seed(0)
    transform = kind(torch.empty(shape)).double()
    with torch.no_grad():
        for values in transform.parameters():
            values.add_(torch.randn_like(values))
    reference = reference_of(kind, torch.empty(shape))
    copy_to(transform, reference)
    gradients = torch.randn(3, *shape, dtype=torch.float64)
    expected = torch.stack([reference(gradient) for gradient in gradients])
    torch.testing.assert_close(transform(gradients), expected)
    torch.testing.assert_close(transform(gradients[0]), expected[0])


@ENGINES
@pytest.mark.parametrize(("name", "kind"), [("meta_curvature", MetaCurvature), ("kronecker", Kronecker)])
def test_gradients_are_those_of_gbml(engine, name, kind):
    network, batch = network_of("conv4"), random_tasks()
    ours = built(engine, network, transform=name)
    ours.meta_gradient(batch, 2)
    reference = GBML(network_of("conv4"), lambda parameter: reference_of(kind, parameter), lr=0.3)
    updates = reference.compute_update.transforms_modules
    for transform, update in zip(ours.rates.transforms, updates, strict=True):
        copy_to(transform, update)
    meta_gradient_of_learn2learn(reference, batch)
    for a, b in zip(network.parameters(), reference.module.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-12)
    for transform, update in zip(ours.rates.transforms, updates, strict=True):
        for factor, other, transposed in theirs(transform, update):
            expected = other.grad.mT if transposed else other.grad
            torch.testing.assert_close(factor.grad, expected, rtol=1e-10, atol=1e-12)
