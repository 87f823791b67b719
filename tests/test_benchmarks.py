"""What `make bench` measures runs: a benchmark that is broken is noticed by nobody until somebody wants a figure."""

from importlib import import_module

import pytest

from benchmarks.plan import WORKS
from benchmarks.settings import Setting
from benchmarks.stopwatch import Stopwatch

TINY = Setting((1, 28, 28), filters=2, tasks=2, shots=1, queries=1, steps=1, lr=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("contender", "does"), sorted({(contender, work.does) for work in WORKS.values() for contender in work.contenders})
)
def test_a_contender_does_its_work(contender, does):
    if contender == "higher_example":
        pytest.importorskip("higher", reason="higher comes with make bench")
    stopwatch = Stopwatch()
    getattr(import_module(f"benchmarks.contenders.{contender}"), does)(TINY, 3, stopwatch)
    assert len(stopwatch.seconds) == (1 if does == "evaluate" else 3)
