"""Features from layers that no task adapts (ANIL's body): computed once per task instead of once per inner step."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from fewshot.backbones.norm import BatchNorm
from fewshot.inner.fast_weights import FastWeights, Gradients
from fewshot.tasks.batch import TaskBatch


def split(engine: FastWeights) -> tuple[nn.Module, nn.Sequential] | None:
    """Splits a sequential network before its first adapted layer into body and head; None if every step needs the body.

    Every step needs it if the body has a batch norm for each step, or if each step sees other images.
    """
    inner, network = engine.inner, engine.network
    if not isinstance(network, nn.Sequential) or engine.task_init is not None or inner.outer == "displacement":
        return None
    links = list(network.named_children())
    adapted = [any(name.split(".")[0] == link for name in engine.adapted) for link, _ in links]
    first = adapted.index(True)
    body, head = nn.Sequential(OrderedDict(links[:first])), nn.Sequential(OrderedDict(links[first:]))
    if not first or any(isinstance(module, BatchNorm) and module.weight.ndim > 1 for module in body.modules()):
        return None
    return body, head


def through_body(
    engine: FastWeights, body: nn.Module, head: FastWeights, chunk: TaskBatch, tasks: int, outer_step: int
) -> tuple[Tensor, Tensor, Gradients]:
    """Losses, outputs and outer gradients of a chunk of tasks, where `head` adapts the layers after the body.

    The outer gradient passes back through the body once, at the end, whatever the number of steps.
    """
    features = engine.embedded(body, chunk)
    inputs = [of_set.detach().requires_grad_(of_set.requires_grad) for of_set in features]
    losses, outputs, found = head.outer_gradients(chunk.with_inputs(*inputs), tasks, outer_step)
    of_head, of_features = found[: len(head.outer)], found[len(head.outer) :]
    learned = [parameter for parameter in body.parameters() if parameter.requires_grad]
    reached = [(of_set, grad) for of_set, grad in zip(features, of_features, strict=False) if grad is not None]
    of_body: Gradients = [None] * len(learned)
    if reached:
        of_set, grads = zip(*reached, strict=True)
        of_body = list(torch.autograd.grad(of_set, learned, grads, allow_unused=True))
    return losses, outputs, [*of_body, *of_head]
