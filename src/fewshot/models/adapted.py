"""Networks adapted to one task, as modules that stand by themselves."""

from collections.abc import Mapping
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot.backbones.norm import BatchNorm, norm_mode
from fewshot.inner.call import unfused_attention
from fewshot.inner.engine import Engine
from fewshot.inner.functional_engine import OneTask
from fewshot.tasks.batch import TaskBatch


@unfused_attention()
def adapted_weights(engine: Engine, task: TaskBatch, steps: int) -> dict[str, Tensor]:
    """All parameters of the engine's network by name after `steps` inner steps on the support set of a batch of one task."""
    weights = engine.fast_weights(OneTask, engine.network)
    *_, fast = engine.inner.trajectory(weights, weights.prepared(task), steps)
    return {name: weight.detach().clone() for name, weight in weights.weights(fast).items()}


def with_weights(network: nn.Module, weights: Mapping[str, Tensor], step: int) -> nn.Module:
    """A copy of a network with other parameters, batch norms that have some for each inner step with those of one."""
    copy = deepcopy(network).eval().requires_grad_(False)
    for name, parameter in copy.named_parameters():
        parameter.data = weights[name]
    for norm in (module for module in copy.modules() if isinstance(module, BatchNorm)):
        if norm.weight.ndim > 1:
            last = min(step, len(norm.weight) - 1)
            norm.weight, norm.bias = (nn.Parameter(p[last].clone(), requires_grad=False) for p in (norm.weight, norm.bias))
    return copy


@torch.no_grad()
def keep_statistics(network: nn.Module, support: Tensor) -> None:
    """Lets a network's batch norms normalise by the statistics of a support set ``(S, ...)`` from now on."""

    def normalise(norm: BatchNorm, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x.double(), dim=[0, *range(2, x.ndim)], correction=0)
        norm.mean, norm.variance = mean.to(x.dtype), variance.to(x.dtype)
        return F.batch_norm(x, norm.mean, norm.variance, norm.weight, norm.bias, False, 0.0, norm.eps)

    with norm_mode(normaliser=normalise):
        network(support)


class FirstOutputs(nn.Module):
    """A network's first outputs, those that a task has classes for."""

    def __init__(self, network: nn.Module, width: int) -> None:
        super().__init__()
        self.network, self._width = network, width

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``(B, width)`` for inputs ``(B, ...)``."""
        outputs: Tensor = self.network(x)
        return outputs[:, : self._width]
