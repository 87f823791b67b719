"""One outer step over several processes: gradients and figures are summed in one flat all-reduce."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn


def processes() -> int:
    """Number of processes of the run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def average_over_tasks(parameters: Sequence[nn.Parameter], tasks: int, sums: Tensor, averages: Sequence[Tensor] = ()) -> Tensor:
    """Averages each ``.grad``, a mean over this process's tasks, over the tasks of all processes, in place.

    Processes may hold different numbers of tasks; each task has the same weight. Gradients and figures are reduced in one
    buffer, in the order of the parameters, so that every process computes the same bits.

    Args:
        parameters: parameters of the network; a missing gradient counts as 0.
        tasks: number of tasks of this process.
        sums: ``(n,)`` figures to be summed over processes.
        averages: other means over this process's tasks.

    Returns:
        ``(1 + n,)`` the number of tasks and `sums`, over all processes.
    """
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    means = [*(parameter.grad for parameter in parameters if parameter.grad is not None), *averages]
    figures = torch.cat([sums.new_tensor([tasks]), sums])
    if processes() == 1:
        return figures
    flat = torch.cat([*(mean.flatten() * tasks for mean in means), figures.to(means[0])])
    dist.all_reduce(flat)
    figures = flat[-len(figures) :]
    start = 0
    for mean in means:
        mean.copy_((flat[start : start + mean.numel()] / figures[0]).view_as(mean))
        start += mean.numel()
    return figures


def smallest(value: int, device: torch.device) -> int:
    """The minimum of a value over all processes."""
    if processes() == 1:
        return value
    tensor = torch.tensor(value, device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MIN)
    return int(tensor)
