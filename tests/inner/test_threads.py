"""Tasks side by side in threads: in order, in the caller's surroundings, and with the same bits as one after another."""

import time
from contextvars import ContextVar
from functools import partial

import pytest
import torch
from torch import nn

from fewshot.inner.functional_engine import FunctionalEngine
from fewshot.inner.loop import InnerLoop
from fewshot.inner.threads import cores, side_by_side
from fewshot.inner.vectorized_engine import VectorizedEngine
from tests.inner.engine_tester import HOOKS, EngineTester, gradients, hooked, random_tasks, uneven_rates


@pytest.fixture
def threads(monkeypatch):
    """Sets how many cores this process may use, and how many threads one of PyTorch's operations has; both are put back."""
    before = torch.get_num_threads()

    def give(of_process, of_operation=1):
        monkeypatch.setenv("OMP_NUM_THREADS", str(of_process))
        torch.set_num_threads(of_operation)

    yield give
    torch.set_num_threads(before)


@pytest.mark.parametrize(("asked", "found"), [("3", 3), ("5,2", 5)])
def test_the_environment_says_how_many_threads_there_may_be(monkeypatch, asked, found):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert cores() == found


@pytest.mark.parametrize("asked", ["", "0", "many"])
def test_else_a_thread_for_each_core(monkeypatch, asked):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {1, 5, 6}, raising=False)
    assert cores() == 3


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_are_in_the_order_of_the_jobs(workers):
    assert list(side_by_side([partial(pow, i, 2) for i in range(20)], workers)) == [i * i for i in range(20)]


def test_the_first_error_is_raised_and_what_has_not_begun_is_left():
    begun = []

    def job(i):
        begun.append(i)
        time.sleep(0.001)
        if i in (3, 4):
            raise RuntimeError(f"job {i}")
        return i

    results = side_by_side([partial(job, i) for i in range(1000)], 2)
    with pytest.raises(RuntimeError, match="job 3"):
        list(results)
    assert len(begun) < 1000


@pytest.mark.parametrize(
    ("of_process", "of_operation", "workers", "of_job"), [(5, 5, 2, 2), (5, 1, 2, 1), (8, 3, 2, 3), (1, 1, 3, 1), (2, 2, 2, 1)]
)
def test_jobs_share_the_threads_of_torch_which_are_put_back(threads, of_process, of_operation, workers, of_job):
    threads(of_process, of_operation)
    assert list(side_by_side([torch.get_num_threads] * 4, workers)) == [of_job] * 4
    assert torch.get_num_threads() == of_operation


def test_jobs_see_context_autocast_and_gradients():
    variable = ContextVar("variable", default="unset")

    def seen():
        return variable.get(), torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"), torch.is_grad_enabled()

    variable.set("set")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert list(side_by_side([seen] * 2, 2)) == [("set", True, torch.bfloat16, True)] * 2
    assert next(side_by_side([seen] * 2, 2))[:2] == ("set", False)


class TestFunctionalEngineInThreads(EngineTester):
    engine = "functional"

    @pytest.fixture(autouse=True)
    def two_threads(self, threads):
        threads(2)


def built(kind, network, options, **more):
    begin = options.pop("begin", None)
    inner = InnerLoop(lr=0.3, eval_steps=2, **options, **more)
    return kind(network, inner, uneven_rates(inner, network), nn.functional.cross_entropy, "transductive", begin)


@pytest.mark.parametrize("kind", [FunctionalEngine, VectorizedEngine])
@pytest.mark.parametrize("name", HOOKS)
def test_the_bits_do_not_depend_on_the_number_of_threads(name, kind, threads, monkeypatch):
    """Often enough, with tasks enough, that two threads would meet in one network if they shared it."""
    monkeypatch.setattr(VectorizedEngine, "chunk", 2)
    network, options = hooked(name, steps=2)
    engine, batch, found = built(kind, network, options), random_tasks(9), []
    for count in (1, 2, 4, 3, 2):
        threads(count)
        network.zero_grad()
        losses, outputs = engine.meta_gradient(batch, 9)
        found.append([losses, outputs, engine.adaptation_path(batch, 2), *gradients(network)])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize(
    ("kind", "bound", "count", "at_once"),
    [
        (FunctionalEngine, None, 1, 1),
        (FunctionalEngine, None, 4, 4),
        (FunctionalEngine, 3, 4, 3),
        (FunctionalEngine, None, 99, 20),
        (VectorizedEngine, None, 1, 7),  # 20 tasks are 7, 7 and 6
        (VectorizedEngine, None, 2, 14),
        (VectorizedEngine, 6, 2, 6),
        (VectorizedEngine, 6, 1, 3),
        (VectorizedEngine, 1, 4, 1),
    ],
)
def test_a_bound_on_tasks_holds_in_threads_too(kind, bound, count, at_once, threads):
    network, options = hooked("proximal", steps=1)
    engine = built(kind, network, options, task_chunk=bound)
    threads(count)
    assert engine.tasks_at_once(random_tasks(20)) == at_once


def test_out_of_memory_fewer_threads_go_on_with_the_same_gradients(threads, monkeypatch):
    network, options = hooked("proximal", steps=1)
    engine, batch, queries = built(FunctionalEngine, network, options), random_tasks(6), FunctionalEngine.queries
    engine.meta_gradient(batch, 6)
    whole = gradients(network)
    network.zero_grad()

    def in_little_memory(engine, fast, chunk):
        if torch.get_num_threads() == 1:  # of four: four workers have one each, two have two
            raise RuntimeError("not enough memory: 1 TB")
        return queries(engine, fast, chunk)

    threads(4, 4)
    monkeypatch.setattr(FunctionalEngine, "queries", in_little_memory)
    engine.meta_gradient(batch, 6)
    assert engine.tasks_at_once(batch) == 2
    for a, b in zip(whole, gradients(network), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
