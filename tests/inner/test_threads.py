"""Tasks side by side in threads: in order, in the caller's surroundings, and with the same bits as one after another."""

import gc
import time
import weakref
from contextvars import ContextVar
from functools import partial

import pytest
import torch
from torch import nn

from fewshot.inner.functional_engine import FunctionalEngine, OneTask
from fewshot.inner.threads import cores, replica, side_by_side
from fewshot.inner.unrolled import Unrolled
from fewshot.inner.vectorized_engine import VectorizedEngine
from tests.inner.engine_tester import (
    HOOKS,
    gradients,
    hooked,
    network_of,
    random_tasks,
    uneven_rates,
)
from tests.pairs import pairwise


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


@pytest.mark.parametrize("workers", [1, 2])
def test_jobs_see_context_autocast_and_gradients(workers):
    variable = ContextVar("variable", default="unset")

    def seen():
        return variable.get(), torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"), torch.is_grad_enabled()

    variable.set("set")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert list(side_by_side([seen] * 2, workers)) == [("set", True, torch.bfloat16, False)] * 2
    assert list(side_by_side([seen] * 2, workers)) == [("set", False, torch.bfloat16, True)] * 2


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_left_in_memory_of_what_failed(workers):
    """So that the next attempt has all of it; without waiting for the garbage collector."""
    held = []

    def job():
        tensor = torch.zeros(10)
        held.append(weakref.ref(tensor))
        raise RuntimeError("not enough memory")

    gc.disable()
    try:
        with pytest.raises(RuntimeError, match="memory") as error:
            list(side_by_side([job] * 4, workers))
        del error
        assert held
        assert all(tensor() is None for tensor in held)
    finally:
        gc.enable()


def test_a_replica_holds_the_same_tensors_itself():
    """Also where a layer stands twice, and where a layer has a list of its weights."""
    layer = nn.Linear(2, 2)
    network = nn.Sequential(layer, layer, nn.LSTM(2, 3))
    other = replica(network)
    assert all(a is b for a, b in zip(network.parameters(), other.parameters(), strict=True))
    assert other[0] is other[1] is not layer
    x = torch.rand(4, 2)
    before = network(x)[0]
    for name in ("weight_ih_l0", "bias_hh_l0"):
        setattr(other[2], name, nn.Parameter(torch.zeros_like(getattr(other[2], name))))
    other[0].weight = nn.Parameter(torch.zeros(2, 2))
    assert torch.equal(network(x)[0], before)
    assert not torch.equal(other(x)[0], before)


def built(kind, network, options, **more):
    task_init = options.pop("task_init", None)
    inner = Unrolled(lr=0.3, eval_steps=2, **options, **more)
    return kind(network, inner, uneven_rates(inner, network), nn.functional.cross_entropy, "transductive", task_init)


KINDS = pytest.mark.parametrize("kind", [FunctionalEngine, VectorizedEngine])


def require_same_bits(engine, batch, threads, monkeypatch):
    """Often enough, with tasks enough, that two threads would meet in one network if they shared it."""
    monkeypatch.setattr(VectorizedEngine, "chunk", 2)
    found = []
    for count in (1, 4):
        threads(count)
        engine.network.zero_grad()
        losses, outputs = engine.meta_gradient(batch, len(batch))
        found.append([losses, outputs, engine.adaptation_path(batch, 2), *gradients(engine.network)])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


FEW = (
    "kronecker, learned rates",
    "all query losses, some annealed away",
    "norms for each step",
    "context",
    "task init, proximal",
)
"""Hooks that have the others in them."""


@pytest.mark.slow
@KINDS
@pytest.mark.parametrize("name", [name if name in FEW else pytest.param(name, marks=pytest.mark.proof) for name in HOOKS])
def test_the_bits_do_not_depend_on_the_number_of_threads(name, kind, threads, monkeypatch):
    network, options = hooked(name, steps=2)
    require_same_bits(built(kind, network, options), random_tasks(9), threads, monkeypatch)


@pytest.mark.slow
@pairwise(mixed=[False, True], adapt=["*", "1.*", "0.*"], kind=[FunctionalEngine, VectorizedEngine])
def test_nor_do_those_of_fewer_bits(mixed, adapt, kind, threads, monkeypatch):
    network, batch = network_of("conv4").float(), random_tasks(9)
    batch = batch.with_inputs(batch.support_x.float(), batch.query_x.float())
    engine = built(kind, network, {"steps": 3, "adapt": (adapt,)})
    engine.rates.float()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        require_same_bits(engine, batch, threads, monkeypatch)


@KINDS
def test_threads_see_the_network_as_it_is_at_each_step(kind, threads):
    """Its weights after an outer step, its mode and its hooks."""
    network, batch, modes = network_of("conv4"), random_tasks(6), []
    threads(3)
    engine = built(kind, network, {"steps": 2})
    engine.meta_gradient(batch, 6)
    torch.optim.SGD(network.parameters(), lr=0.5).step()
    network.zero_grad()
    network.eval().register_forward_hook(lambda module, *_: modes.append(module.training))
    engine.meta_gradient(batch, 6)
    found = gradients(network)
    assert modes
    assert not any(modes)
    network.zero_grad()
    threads(1)
    built(kind, network, {"steps": 2}).meta_gradient(batch, 6)
    assert all(torch.equal(a, b) for a, b in zip(found, gradients(network), strict=True))


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
        (VectorizedEngine, 3, 2, 2),
        (VectorizedEngine, 7, 2, 6),
        (VectorizedEngine, 17, 3, 15),
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
    engine, batch, queries = built(FunctionalEngine, network, options), random_tasks(6), OneTask.query_outputs
    engine.meta_gradient(batch, 6)
    whole = gradients(network)
    network.zero_grad()

    def in_little_memory(weights, fast, chunk):
        if torch.get_num_threads() == 1:  # of four: four workers have one each, two have two
            raise RuntimeError("not enough memory: 1 TB")
        return queries(weights, fast, chunk)

    threads(4, 4)
    monkeypatch.setattr(OneTask, "query_outputs", in_little_memory)
    engine.meta_gradient(batch, 6)
    assert engine.tasks_at_once(batch) == 2
    for a, b in zip(whole, gradients(network), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
