"""Diagnostics of inner-loop gradients, without side effects."""

from dataclasses import replace

import torch
from torch import Tensor

from fewshot.inner.engine import Engine
from fewshot.inner.functional_engine import OneTask
from fewshot.inner.threads import replica
from fewshot.inner.unrolled import Unrolled
from fewshot.tasks.batch import TaskBatch


def inner_gradient_norms(engine: Engine, batch: TaskBatch) -> Tensor:
    """Norm of the support loss's gradient in each adaptation step, over all that is adapted, ``(T, steps)``."""
    inner, norms = engine.inner, []
    weights = engine.fast_weights(OneTask, replica(engine.network))
    for number in range(len(batch)):
        chunk = weights.prepared(batch.slice(number, number + 1))
        for step, fast in zip(range(inner.steps), inner.trajectory(weights, chunk, inner.steps), strict=False):
            leaves = [weight.detach().requires_grad_() for weight in fast]
            with torch.enable_grad():
                gradients = weights.support_gradients(leaves, step, chunk, second_order=False)
            norms.append(torch.nn.utils.get_total_norm([gradient.detach() for gradient in gradients]))
    return torch.stack(norms).view(len(batch), inner.steps)


def order_cosine(engine: Engine, batch: TaskBatch) -> float | None:
    """Cosine between the first- and the second-order meta-gradient with respect to the network, of the last step's query loss.

    Near 1, second derivatives change the meta-gradient little, and the first order would do. None where the outer gradient
    does not pass through the inner steps.
    """
    if not isinstance(engine.inner, Unrolled):
        return None
    inner = replace(engine.inner, annealing=None)
    first, second = (_meta_gradient(engine, batch, replace(inner, first_order=first_order)) for first_order in (True, False))
    return float(torch.nn.functional.cosine_similarity(first, second, dim=0))


def _meta_gradient(engine: Engine, batch: TaskBatch, inner: Unrolled) -> Tensor:
    """The meta-gradient of another inner loop, flat; every ``.grad`` is restored."""
    of_order = replace(engine, inner=inner)
    network = list(engine.network.parameters())
    parameters = [*network, *engine.rates.parameters()]
    kept = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    try:
        of_order.meta_gradient(batch, len(batch))
        found = [torch.zeros_like(p) if p.grad is None else p.grad for p in network]
    finally:
        for parameter, gradient in zip(parameters, kept, strict=True):
            parameter.grad = gradient
    return torch.cat([gradient.flatten() for gradient in found])
