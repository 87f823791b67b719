"""Batch normalisation of many tasks in one pass: each by its own statistics, or all by those gathered in training."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot.backbones.norm import BatchNorm, normalised_by, statistics_from_first

MOMENTUM = 0.1
"""Share of a training step in the running statistics, as in PyTorch."""


@contextmanager
def by_task(tasks: int, first: int | None = None) -> Iterator[None]:
    """Within it, the rows of a batch are those of `tasks` tasks one after another, each normalised by its own statistics.

    Args:
        tasks: as many rows each.
        first: rows of a task that its statistics are taken from, the support set; None takes all.
    """
    with normalised_by(lambda norm, x: _by_task(norm, x, tasks, first)):
        yield


class RunningStatistics(nn.Module):
    """Mean and variance of every channel of a network's `BatchNorm` layers over training tasks.

    Ioffe & Szegedy 2015, Algorithm 2. They are moved once an outer step, by the mean over all tasks of all processes, and by
    nothing else: no validation or test task leaves a trace in them. With one task a step they are those of PyTorch's own
    layers. What a step has gathered stands in their ``.grad`` as the distance to it, so that it is averaged over tasks and
    processes with the gradients of the weights.

    Args:
        network: whose layers they are of.

    Attributes:
        mean, variance: ``(channels,)`` of all layers, one layer after another.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        channels = sum(len(norm.weight) for norm in _norms(network))
        self.mean = nn.Parameter(torch.zeros(channels), requires_grad=False)
        self.variance = nn.Parameter(torch.ones(channels), requires_grad=False)

    @contextmanager
    def gathering(self, network: nn.Module, tasks: int, first: int | None = None, share: float = 1.0) -> Iterator[None]:
        """Within it, a batch is normalised task by task (`by_task`); at its end the tasks' mean statistics are in ``.grad``.

        Args:
            network: whose layers the statistics are of.
            tasks: in the batch, as many rows each.
            first: rows of a task that its statistics are taken from; None takes all.
            share: of the batch among all tasks of the step, which are added up.
        """
        means, variances = torch.zeros_like(self.mean), torch.zeros_like(self.variance)
        places = self._places(network)

        def normalise(norm: BatchNorm, x: Tensor) -> Tensor:
            rows = x.detach().view(tasks, -1, *x.shape[1:])[:, :first].to(means.dtype)
            dims = [1, *range(3, rows.ndim)]
            variance, mean = torch.var_mean(rows, dim=dims)
            means[places[norm]] += mean.mean(dim=0)
            variances[places[norm]] += variance.mean(dim=0)
            return _by_task(norm, x, tasks, first)

        with normalised_by(normalise):
            yield
        for values, gathered in ((self.mean, means), (self.variance, variances)):
            distance = share * (values - gathered)
            values.grad = distance if values.grad is None else values.grad + distance

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """Within it, every image is normalised by these statistics, whatever images pass with it."""
        places = self._places(network)

        def normalise(norm: BatchNorm, x: Tensor) -> Tensor:
            place = places[norm]
            return F.batch_norm(x, self.mean[place], self.variance[place], norm.weight, norm.bias, False, 0.0, norm.eps)

        with normalised_by(normalise):
            yield

    def show(self, network: nn.Module) -> None:
        """Copies them into the network's layers, for who takes a module out of it."""
        for norm, place in self._places(network).items():
            norm.mean, norm.variance = self.mean.detach()[place].clone(), self.variance.detach()[place].clone()

    def move(self) -> None:
        """One step towards what was gathered."""
        with torch.no_grad():
            for values in self.parameters():
                if values.grad is not None:
                    values.sub_(values.grad, alpha=MOMENTUM)
                    values.grad = None

    @staticmethod
    def _places(network: nn.Module) -> dict[BatchNorm, slice]:
        """Where each layer's channels stand."""
        places: dict[BatchNorm, slice] = {}
        start = 0
        for norm in _norms(network):
            places[norm] = slice(start, start + len(norm.weight))
            start += len(norm.weight)
        return places


def _by_task(norm: BatchNorm, x: Tensor, tasks: int, first: int | None) -> Tensor:
    parts = x.chunk(tasks)
    if first is None:
        return torch.cat([norm.by_batch(part) for part in parts])
    with statistics_from_first(first):
        return torch.cat([norm.by_batch(part) for part in parts])


def _norms(network: nn.Module) -> list[BatchNorm]:
    return [module for module in network.modules() if isinstance(module, BatchNorm)]
