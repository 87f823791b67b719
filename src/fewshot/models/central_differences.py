"""Central differences against which derivatives are checked: the meta-gradient, and the second derivative of each layer."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fewshot.backbones.norm import norm_mode
from fewshot.inner.call import preserve_buffers, query_outputs, unfused_attention
from fewshot.inner.engine import Engine
from fewshot.inner.unrolled import Unrolled
from fewshot.models.base import MetaLearner
from fewshot.models.maml import MAML
from fewshot.tasks.batch import TaskBatch

STEPS = (1e-6, 1e-7, 1e-8)
"""Of central differences along a unit vector; one of them meets neither kinks nor rounding."""
ROUNDING = 1e-14
"""Of a loss."""
CLOSE = 1e-3
"""Largest relative distance of two numbers that are the same; a wrong second derivative is further away."""


class UnfitError(Exception):
    """What a model cannot do with its network; one line."""


def first_order_remedy(model: MetaLearner) -> str:
    """What to set where second derivatives are what a layer lacks; empty where none are taken."""
    inner = model.inner if isinstance(model, MAML) else None
    second_order = isinstance(inner, Unrolled) and inner.second_order(inner.landmarks[-1])
    return "; set model.inner.first_order=true" if second_order else ""


def require_meta_gradient(model: MAML, inner: Unrolled, batch: TaskBatch, gradient: Tensor) -> None:
    """Compares a meta-gradient with central differences of the mean query loss.

    They are taken along one direction, in which each element counts about as much as it does in the meta-gradient.

    Args:
        gradient: of all parameters with ``requires_grad``, flat and in double precision.

    Raises:
        UnfitError: they differ, or the meta-gradient is not finite.
    """
    if not gradient.isfinite().all():
        raise UnfitError("its meta-gradient is not finite")
    signs = torch.randint(2, gradient.shape, generator=torch.Generator().manual_seed(0)).mul(2).sub(1)
    along = signs * gradient / gradient.norm().clamp(min=1e-30)
    expected, size = float(gradient @ along), float((gradient * along).norm())
    second_order, engine = inner.second_order(inner.landmarks[-1]), model.engine_for(batch)
    learned = model.learned
    parts = torch.split(along, [parameter.numel() for parameter in learned])
    direction = [part.view_as(parameter) for part, parameter in zip(parts, learned, strict=True)]
    inner_gradients = [_query_loss(engine, inner, task)[1] for task in batch]

    def loss() -> float:
        """To first order, inner gradients are constants."""
        return sum(
            _query_loss(engine, inner, task, None if second_order else of_task)[0]
            for task, of_task in zip(batch, inner_gradients, strict=True)
        ) / len(batch)

    found = []
    for step in STEPS:
        found.append(_central_difference(loss, learned, direction, step))
        if abs(found[-1] - expected) <= CLOSE * (abs(expected) + size) + ROUNDING / step:
            return
    layer = faulty_layer(model, batch)
    off = f"its meta-gradient differs from central differences, {expected:.4g} from {found[0]:.4g}"
    if layer is not None:
        raise UnfitError(
            f"PyTorch's derivatives of {layer} are not those of what it computes ({off}){first_order_remedy(model)}"
        )
    raise UnfitError(f"{off}: something in forward detaches, or computes again in backward as torch.utils.checkpoint does")


def _central_difference(
    function: Callable[[], float], tensors: Sequence[Tensor], direction: Sequence[Tensor], step: float
) -> float:
    """The derivative of a function of some tensors along a direction, by changing them in place and back."""
    kept, values = [tensor.detach().clone() for tensor in tensors], []
    for sign in (step, -step):
        with torch.no_grad():
            for tensor, value, towards in zip(tensors, kept, direction, strict=True):
                tensor.copy_(value + sign * towards)
        values.append(function())
    with torch.no_grad():
        for tensor, value in zip(tensors, kept, strict=True):
            tensor.copy_(value)
    return (values[0] - values[1]) / (2 * step)


def _query_loss(
    engine: Engine, inner: Unrolled, task: TaskBatch, given: list[Sequence[Tensor]] | None = None
) -> tuple[float, list[Sequence[Tensor]]]:
    """A task's query loss after inner steps of the network itself, put back afterwards, and the inner gradients of each step.

    Args:
        given: inner gradients to use; None computes them.
    """
    network, rates, total = engine.network, engine.rates, 0.0
    used: list[Sequence[Tensor]] = []
    parameters = list(network.parameters())
    adapted = [parameter for parameter, chosen in zip(parameters, inner.adapted(network), strict=True) if chosen]
    kept = [(parameter, parameter.detach().clone(), parameter.requires_grad) for parameter in parameters]
    try:
        with torch.no_grad():
            init = {} if engine.task_init is None else engine.task_init(task.support_x, task.support_y)
            for name, value in init.items():
                network.get_parameter(name).copy_(value)
        anchors = [parameter.detach().clone() for parameter in adapted]
        for step, weight in enumerate(inner.loss_weights(inner.landmarks[-1])):
            with norm_mode(step=step), preserve_buffers(network), unfused_attention():
                if given is None:
                    for parameter in adapted:
                        parameter.requires_grad_()
                    loss = engine.loss(network(task.support_x), task.support_y)
                    used.append(torch.autograd.grad(loss, adapted, materialize_grads=True))
                else:
                    used.append(given[step])
            with torch.no_grad(), norm_mode(step=step), preserve_buffers(network), unfused_attention():
                pulls = [inner.proximal * (parameter - anchor) for parameter, anchor in zip(adapted, anchors, strict=True)]
                gradients = rates.transformed([gradient + pull for gradient, pull in zip(used[-1], pulls, strict=True)])
                for parameter, rate, gradient in zip(adapted, rates.at(step), gradients, strict=True):
                    parameter.sub_(rate * gradient)
                if weight:
                    outputs = query_outputs(network, task.support_x, task.query_x, engine.batch_norm)
                    total += weight * float(engine.loss(outputs, task.query_y))
    finally:
        with torch.no_grad():
            for parameter, value, learned in kept:
                parameter.copy_(value).requires_grad_(learned)
    return total, used


def faulty_layer(model: MetaLearner, batch: TaskBatch) -> str | None:
    """The first layer, from the innermost, whose second derivative PyTorch has not or not rightly; None where there is none."""
    features = model.network.get_submodule("features")
    calls: list[tuple[nn.Module, tuple[Any, ...]]] = []
    handles = [
        layer.register_forward_hook(lambda layer, inputs, _: calls.append((layer, inputs))) for layer in features.modules()
    ]
    try:
        with preserve_buffers(features), torch.no_grad(), unfused_attention():
            features(batch.support_x[0])
    finally:
        for handle in handles:
            handle.remove()
    names = {layer: name for name, layer in features.named_modules()}
    for layer, inputs in calls:
        if all(isinstance(x, Tensor) and x.is_floating_point() for x in inputs) and not _is_twice_differentiable(layer, inputs):
            return f"features.{names[layer]} ({type(layer).__name__})".replace(". ", " ")
    return None


def _is_twice_differentiable(layer: nn.Module, inputs: Sequence[Tensor]) -> bool:
    """By central differences of the first derivative of half the sum of the squared outputs."""
    leaves = [*(p for p in layer.parameters() if p.requires_grad), *(x.detach().clone().requires_grad_() for x in inputs)]
    given = leaves[len(leaves) - len(inputs) :]

    def first(create_graph: bool = False) -> tuple[Tensor, ...]:
        with preserve_buffers(layer), unfused_attention():
            outputs = layer(*given)
        total = (outputs if isinstance(outputs, Tensor) else outputs[0]).square().sum() / 2
        return torch.autograd.grad(total, leaves, create_graph=create_graph, materialize_grads=True)

    try:
        gradients = first(create_graph=True)
        towards = [gradient.detach() for gradient in gradients]
        along = torch.stack([(gradient * fixed).sum() for gradient, fixed in zip(gradients, towards, strict=True)]).sum()
        second = torch.autograd.grad(along, leaves, materialize_grads=True)
    except RuntimeError:  # PyTorch's for a derivative that an operation lacks
        return False
    size = torch.nn.utils.get_total_norm(second)

    def function() -> float:
        return float(sum((gradient * fixed).sum() for gradient, fixed in zip(first(), towards, strict=True)))

    direction = [derivative / size.clamp(min=1e-30) for derivative in second]
    return any(
        abs(_central_difference(function, leaves, direction, step) - size) <= CLOSE * size + ROUNDING / step for step in STEPS
    )
