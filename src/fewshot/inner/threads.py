"""Tasks side by side on a processor: each thread adapts to tasks of its own instead of a share of every small operation."""

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
    """Threads that this process may have at a time: OMP_NUM_THREADS, or else a core each."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if asked.isdecimal() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def side_by_side(jobs: Sequence[Callable[[], Result]], workers: int) -> Iterator[Result]:
    """The results of jobs in their order, each job in one of `workers` threads.

    They share the cores: an operation of a job has as many of PyTorch's threads as each worker has cores, at most those it has
    elsewhere. Two jobs on two cores wait for nobody, which also makes them indifferent to other work on the machine. Jobs see
    the context variables of the caller, its autocast, and whether it has gradients enabled. What a job computes does not depend
    on how many there are beside it, as long as an operation has as many threads.

    Raises:
        Exception: the first that a job raises, in the order of the jobs; those not yet begun are left.
    """
    kind, autocast, gradients = torch.get_autocast_dtype("cpu"), torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()

    def run(job: Callable[[], Result]) -> Result:
        # Autocast's cache of cast weights is one for all threads, and emptied by whichever leaves it: gradients would be added
        # up in another precision depending on who was first.
        with torch.autocast("cpu", kind, autocast, cache_enabled=False), torch.set_grad_enabled(gradients):
            return job()

    if workers <= 1:
        yield from map(run, jobs)
        return
    share = max(1, min(torch.get_num_threads(), cores() // workers))
    # Threads of this call alone: none outlive it, so that a process may be forked between two calls.
    with _threads_of_torch(share), ThreadPoolExecutor(workers, "task", torch.set_num_threads, (share,)) as pool:
        futures = deque(pool.submit(copy_context().run, run, job) for job in jobs)
        try:
            while futures:
                yield futures.popleft().result()
        finally:
            while futures:  # nothing refers to what failed, nor to what was computed beside it
                futures.popleft().cancel()


def replica(network: nn.Module) -> nn.Module:
    """A network with the same tensors, hooks and settings as another, which holds them itself.

    ``torch.func.functional_call`` puts weights in the place of a network's parameters for the moment of a call, so that two
    threads cannot call one network. What a network writes into itself when it is called stays in its replica.
    """
    made: dict[nn.Module, nn.Module] = {}

    def of(module: nn.Module) -> nn.Module:
        if module not in made:
            made[module] = other = module.__new__(type(module))  # some modules refuse to be copied
            other.__dict__ |= vars(module)
            # Lists too: a recurrent network has one of its weights.
            other.__dict__ |= {name: copy(value) for name, value in vars(module).items() if type(value) is list}
            for place in ("_parameters", "_buffers"):
                other.__dict__[place] = dict(vars(module)[place])
            other.__dict__["_modules"] = {name: child and of(child) for name, child in vars(module)["_modules"].items()}
        return made[module]

    return of(network)


@contextmanager
def _threads_of_torch(count: int) -> Iterator[None]:
    """Within it, an operation of this thread has `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
