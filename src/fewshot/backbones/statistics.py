"""Batch normalisation of many tasks in one pass: each by its own statistics, or all by those gathered in training."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot.backbones.norm import BatchNorm, norm_mode

MOMENTUM = 0.1
"""Share of a training step in the running statistics, as in PyTorch."""


@contextmanager
def by_task(tasks: int, first: int | None = None) -> Iterator[None]:
    """Within it, the rows of a batch are those of `tasks` tasks one after another, each normalised by its own statistics.

    Args:
        tasks: as many rows each.
        first: rows of a task that its statistics are taken from, the support set; None takes all.
    """
    with norm_mode(normaliser=lambda norm, x: _by_task(norm, x, tasks, first)):
        yield


class RunningStatistics(nn.Module):
    """Mean and variance of every channel of a network's `BatchNorm` layers over training tasks.

    Ioffe & Szegedy 2015, Algorithm 2. They are moved once an outer step, by the mean over all tasks of all processes, and by
    nothing else: no validation or test task leaves a trace in them. With one task a step they are those of PyTorch's own
    layers.

    Args:
        network: whose layers they are of.

    Attributes:
        mean, variance: ``(channels,)`` of all layers, one layer after another.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        channels = sum(len(norm.weight) for norm in _norms(network))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    @contextmanager
    def gathering(self, network: nn.Module, tasks: int, first: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Within it, a batch is normalised task by task (`by_task`).

        Args:
            network: whose layers the statistics are of.
            tasks: in the batch, as many rows each.
            first: rows of a task that its statistics are taken from; None takes all.

        Yields:
            mean and variance of every channel ``(channels,)``, averaged over the tasks, once all layers have been called.
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

        with norm_mode(normaliser=normalise):
            yield means, variances

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """Within it, every image is normalised by these statistics, whatever images pass with it."""
        places = self._places(network)

        def normalise(norm: BatchNorm, x: Tensor) -> Tensor:
            place = places[norm]
            return F.batch_norm(x, self.mean[place], self.variance[place], norm.weight, norm.bias, False, 0.0, norm.eps)

        with norm_mode(normaliser=normalise):
            yield

    def show(self, network: nn.Module) -> None:
        """Copies them into the network's layers, for who takes a module out of it."""
        for norm, place in self._places(network).items():
            norm.mean, norm.variance = self.mean.detach()[place].clone(), self.variance.detach()[place].clone()

    def move(self, mean: Tensor, variance: Tensor) -> None:
        """One step towards the statistics of an outer step's tasks."""
        move_average(self.mean, mean)
        move_average(self.variance, variance)

    @staticmethod
    def _places(network: nn.Module) -> dict[BatchNorm, slice]:
        """Where each layer's channels stand."""
        places: dict[BatchNorm, slice] = {}
        start = 0
        for norm in _norms(network):
            places[norm] = slice(start, start + len(norm.weight))
            start += len(norm.weight)
        return places


def move_average(average: Tensor, seen: Tensor) -> None:
    """Moves a running average by one step towards what an outer step has seen."""
    average.sub_(average - seen, alpha=MOMENTUM)


def _by_task(norm: BatchNorm, x: Tensor, tasks: int, first: int | None) -> Tensor:
    with norm_mode(rows=first):
        return torch.cat([norm.by_batch(part) for part in x.chunk(tasks)])


def _norms(network: nn.Module) -> list[BatchNorm]:
    return [module for module in network.modules() if isinstance(module, BatchNorm)]
