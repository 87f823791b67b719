"""Tasks side by side on a processor: each thread adapts to tasks of its own instead of a share of every small operation."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import TypeVar

import torch

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
    elsewhere. Two jobs on two cores wait for nobody, which also makes them indifferent to other work on the machine. What a
    job computes does not depend on how many there are beside it. Jobs see the context variables and the autocast of the caller;
    gradients are enabled.

    Raises:
        Exception: the first that a job raises, in the order of the jobs; those not yet begun are left.
    """
    if workers <= 1:
        yield from (job() for job in jobs)
        return
    kind, autocast = torch.get_autocast_dtype("cpu"), torch.is_autocast_enabled("cpu")

    def run(job: Callable[[], Result]) -> Result:
        with torch.autocast("cpu", kind, autocast):
            return job()

    share = max(1, min(torch.get_num_threads(), cores() // workers))
    # Threads of this call alone: none outlive it, so that a process may be forked between two calls.
    with _threads_of_torch(share), ThreadPoolExecutor(workers, "task", torch.set_num_threads, (share,)) as pool:
        futures = [pool.submit(copy_context().run, run, job) for job in jobs]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


@contextmanager
def _threads_of_torch(count: int) -> Iterator[None]:
    """Within it, an operation of this thread has `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
