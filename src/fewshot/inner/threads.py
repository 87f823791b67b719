"""Tasks in parallel on a CPU: each thread adapts to tasks of its own, instead of to a share of every small operation."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from copy import copy
from typing import TypeVar

import torch
from torch import nn

Result = TypeVar("Result")


def cores() -> int:
    """Number of threads that this process may run at a time: OMP_NUM_THREADS, or else the number of its cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if asked.isdecimal() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def side_by_side(jobs: Sequence[Callable[[], Result]], workers: int) -> Iterator[Result]:
    """The results of jobs in their order, each job in one of `workers` threads.

    The workers share the cores: an operation of a job has as many PyTorch threads as each worker has cores, and at most
    ``torch.get_num_threads()``. Two jobs on two cores never wait for each other, so other work on the machine slows them less.
    Jobs run with the caller's context variables, autocast and gradient mode. The result of a job does not depend on the number
    of jobs beside it, as long as an operation has the same number of threads.

    Raises:
        Exception: the first that a job raises, in the order of the jobs; jobs not yet started are cancelled.
    """
    kind, autocast, gradients = torch.get_autocast_dtype("cpu"), torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()

    def run(job: Callable[[], Result]) -> Result:
        # All threads share autocast's cache of cast weights, and the first to leave autocast clears it: the precision in which
        # gradients are summed would depend on the order of the threads.
        with torch.autocast("cpu", kind, autocast, cache_enabled=False), torch.set_grad_enabled(gradients):
            return job()

    if workers <= 1:
        yield from map(run, jobs)
        return
    share = max(1, min(torch.get_num_threads(), cores() // workers))
    # The threads end with this call, so that the process may be forked between two calls.
    with _threads_of_torch(share), ThreadPoolExecutor(workers, "task", torch.set_num_threads, (share,)) as pool:
        futures = deque(pool.submit(copy_context().run, run, job) for job in jobs)
        try:
            while futures:
                yield futures.popleft().result()
        finally:
            while futures:  # drop all references to failed jobs and to the results of others
                futures.popleft().cancel()


def replica(network: nn.Module) -> nn.Module:
    """A copy of a network's module objects that shares all tensors, hooks and settings with the network.

    `Call` puts other weights in place of a network's parameters during a call, so two threads cannot call the same network.
    Attributes that a network sets on itself during a call stay in its replica.
    """
    made: dict[nn.Module, nn.Module] = {}

    def of(module: nn.Module) -> nn.Module:
        if module not in made:
            made[module] = other = module.__new__(type(module))  # some modules refuse to be copied
            other.__dict__ |= vars(module)
            # Lists too: a recurrent network keeps a list of its weights.
            other.__dict__ |= {name: copy(value) for name, value in vars(module).items() if type(value) is list}
            for place in ("_parameters", "_buffers"):
                other.__dict__[place] = dict(vars(module)[place])
            other.__dict__["_modules"] = {name: child and of(child) for name, child in vars(module)["_modules"].items()}
        return made[module]

    return of(network)


@contextmanager
def _threads_of_torch(count: int) -> Iterator[None]:
    """Runs the operations of this thread with `count` PyTorch threads, within the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
