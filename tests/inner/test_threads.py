"""Tasks side by side in threads: in order, in the caller's surroundings, and with the same bits as one after another."""

import time
from contextvars import ContextVar
from functools import partial

import pytest
import torch
from torch import nn

from fewshot.inner.functional_engine import FunctionalEngine
from fewshot.inner.loop import InnerLoop
from fewshot.inner.threads import side_by_side
from fewshot.inner.vectorized_engine import VectorizedEngine
from tests.inner.engine_tester import HOOKS, EngineTester, gradients, hooked, random_tasks, uneven_rates


@pytest.fixture
def threads_of_torch():
    """Sets how many threads PyTorch has; they are put back afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


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


def test_jobs_share_the_threads_of_torch_which_are_put_back(threads_of_torch):
    threads_of_torch(5)
    assert list(side_by_side([torch.get_num_threads] * 4, 2)) == [2] * 4
    assert torch.get_num_threads() == 5
    threads_of_torch(1)
    assert list(side_by_side([torch.get_num_threads] * 4, 3)) == [1] * 4


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
    def two_threads(self, threads_of_torch):
        threads_of_torch(2)


@pytest.mark.parametrize("kind", [FunctionalEngine, VectorizedEngine])
@pytest.mark.parametrize("name", HOOKS)
def test_the_bits_do_not_depend_on_the_number_of_threads(name, kind, threads_of_torch, monkeypatch):
    """Often enough, with tasks enough, that two threads would meet in one network if they shared it."""
    monkeypatch.setattr(VectorizedEngine, "chunk", 2)
    network, options = hooked(name, steps=2)
    begin = options.pop("begin")
    inner = InnerLoop(lr=0.3, eval_steps=2, **options)
    engine = kind(network, inner, uneven_rates(inner, network), nn.functional.cross_entropy, "transductive", begin)
    batch, found = random_tasks(9), []
    for threads in (1, 2, 4, 3, 2):
        threads_of_torch(threads)
        network.zero_grad()
        losses, outputs = engine.meta_gradient(batch, 9)
        found.append([losses, outputs, engine.adaptation_path(batch, 2), *gradients(network)])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize(("bound", "threads", "at_once"), [(None, 1, 1), (None, 4, 4), (3, 4, 3), (None, 16, 9)])
def test_a_bound_on_tasks_holds_in_threads_too(bound, threads, at_once, threads_of_torch):
    network, options = hooked("proximal", steps=1)
    options.pop("begin")
    inner = InnerLoop(lr=0.3, eval_steps=2, task_chunk=bound, **options)
    engine = FunctionalEngine(network, inner, uneven_rates(inner, network), nn.functional.cross_entropy, "transductive")
    threads_of_torch(threads)
    assert engine.tasks_at_once(random_tasks(9)) == at_once


def test_out_of_memory_fewer_threads_go_on_with_the_same_gradients(threads_of_torch, monkeypatch):
    network, options = hooked("proximal", steps=1)
    options.pop("begin")
    inner = InnerLoop(lr=0.3, eval_steps=2, **options)
    engine = FunctionalEngine(network, inner, uneven_rates(inner, network), nn.functional.cross_entropy, "transductive")
    batch, queries = random_tasks(6), FunctionalEngine.queries
    engine.meta_gradient(batch, 6)
    whole = gradients(network)
    network.zero_grad()

    def in_little_memory(engine, fast, chunk):
        if torch.get_num_threads() == 1:  # of four: four workers have one each, two have two
            raise RuntimeError("not enough memory: 1 TB")
        return queries(engine, fast, chunk)

    threads_of_torch(4)
    monkeypatch.setattr(FunctionalEngine, "queries", in_little_memory)
    engine.meta_gradient(batch, 6)
    assert engine.tasks_at_once(batch) == 2
    for a, b in zip(whole, gradients(network), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
