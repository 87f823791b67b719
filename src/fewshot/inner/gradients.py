"""Looks at the gradients of an inner loop; leaves nothing behind."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.func import functional_call

from fewshot.inner.engine import Engine
from fewshot.tasks import TaskBatch


def inner_gradient_norms(engine: Engine, batch: TaskBatch) -> Tensor:
    """Norm of the support loss's gradient in each adaptation step, over all that is adapted, ``(T, steps)``."""
    named = list(zip(engine.network.named_parameters(), engine.inner.adapted(engine.network), strict=True))
    with torch.enable_grad():
        norms = []
        for task in batch:
            weights = {name: parameter.detach() for (name, parameter), adapted in named if adapted}
            for step in range(engine.inner.steps):
                fast = {name: weight.requires_grad_() for name, weight in weights.items()}
                loss = engine.loss(functional_call(engine.network, fast, (task.support_x,)), task.support_y)
                slopes = torch.autograd.grad(loss, list(fast.values()))
                norms.append(torch.nn.utils.get_total_norm(slopes).detach())
                weights = {
                    name: (weight - rate * slope).detach()
                    for (name, weight), rate, slope in zip(fast.items(), engine.rates.at(step), slopes, strict=True)
                }
    return torch.stack(norms).view(len(batch), engine.inner.steps)


def order_cosine(engine: Engine, batch: TaskBatch) -> float:
    """Cosine between the first- and the second-order meta-gradient with respect to the network.

    Near 1, the derivatives of the inner gradients change little and the first order would do.
    """
    first, second = (_meta_gradient(engine, batch, first_order) for first_order in (True, False))
    return float(torch.nn.functional.cosine_similarity(first, second, dim=0))


def _meta_gradient(engine: Engine, batch: TaskBatch, first_order: bool) -> Tensor:
    """The meta-gradient of one order, flat; every ``.grad`` is put back."""
    chosen = engine.chosen(batch)
    inner = replace(engine.inner, first_order=first_order)
    of_order = type(chosen)(engine.network, inner, engine.rates, engine.loss, engine.batch_norm)
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
