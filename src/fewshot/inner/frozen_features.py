"""Features from layers that no task adapts (ANIL's body): computed once per task instead of once per inner step."""

from collections import OrderedDict
from dataclasses import replace

import torch
from torch import Tensor, nn

from fewshot.backbones.norm import BatchNorm
from fewshot.inner.fast_weights import FastWeights, Gradients
from fewshot.inner.inner_loop import InnerLoop
from fewshot.inner.reptile import Reptile
from fewshot.tasks.batch import TaskBatch


def outer_gradients(
    inner: InnerLoop, weights: FastWeights, chunk: TaskBatch, tasks: int, outer_step: int
) -> tuple[Tensor, Tensor, Gradients]:
    """What `InnerLoop.outer_gradients` returns. Gradients pass back through a body once, at the end, whatever the steps."""
    parts = split(weights, inner)
    if parts is None:
        return inner.outer_gradients(weights, chunk, tasks, outer_step)
    body, head = parts
    features = weights.body_features(body, chunk)
    inputs = [of_set.detach().requires_grad_(of_set.requires_grad) for of_set in features]
    losses, outputs, found = inner.outer_gradients(head, chunk.with_inputs(*inputs), tasks, outer_step)
    of_head, of_features = found[: len(head.outer)], found[len(head.outer) :]
    learned = [parameter for parameter in body.parameters() if parameter.requires_grad]
    reached = [(of_set, grad) for of_set, grad in zip(features, of_features, strict=False) if grad is not None]
    of_body: Gradients = [None] * len(learned)
    if reached:
        of_set, grads = zip(*reached, strict=True)
        of_body = torch.autograd.grad(of_set, learned, grads, allow_unused=True)
    return losses, outputs, [*of_body, *of_head]


def adaptation_path(inner: InnerLoop, weights: FastWeights, chunk: TaskBatch, steps: int) -> Tensor:
    """What `InnerLoop.adaptation_path` returns."""
    parts = split(weights, inner)
    if parts is None:
        return inner.adaptation_path(weights, chunk, steps)
    body, head = parts
    with torch.no_grad():
        features = weights.body_features(body, chunk)
    return inner.adaptation_path(head, chunk.with_inputs(*features), steps)


def split(weights: FastWeights, inner: InnerLoop) -> tuple[nn.Module, FastWeights] | None:
    """A sequential network's layers before the first adapted one, the body, and the rest; None if every step needs the body.

    Every step needs it if the body has a batch norm for each step, or if each step sees other images.
    """
    network = weights.network
    if not isinstance(network, nn.Sequential) or weights.task_init is not None or isinstance(inner, Reptile):
        return None
    links = list(network.named_children())
    adapted = [any(name.split(".")[0] == link for name in weights.adapted) for link, _ in links]
    first = adapted.index(True)
    body = nn.Sequential(OrderedDict(links[:first]))
    if not first or any(isinstance(module, BatchNorm) and module.weight.ndim > 1 for module in body.modules()):
        return None
    return body, replace(weights, network=nn.Sequential(OrderedDict(links[first:])))
