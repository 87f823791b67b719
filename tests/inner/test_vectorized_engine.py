"""What every engine has to pass, passed by `vectorized`; all tasks at once, in chunks, and step by step.

In chunks and step by step it equals the reference; what the reference passes by itself is left to the proofs.
"""

import logging
from typing import ClassVar

import pytest
import torch

from fewshot.inner.vectorized_engine import ManyTasks
from tests.inner.engine_tester import (
    ComparedTester,
    DifferencesTester,
    LoopTester,
    VariantTester,
    gradients,
    network_of,
    random_tasks,
)


class TestVectorizedEngine(VariantTester):
    engine = "vectorized"


@pytest.mark.proof
class TestVectorizedEngineByDifferences(DifferencesTester):
    engine = "vectorized"


@pytest.mark.slow
class TestVectorizedEngineStepByStep(ComparedTester):
    engine = "vectorized"
    options: ClassVar = {"checkpoint_steps": True}


@pytest.mark.proof
class TestVectorizedEngineStepByStepAlone(LoopTester):
    engine = "vectorized"
    options: ClassVar = TestVectorizedEngineStepByStep.options


@pytest.mark.proof
class TestVectorizedEngineInChunksAlone(LoopTester):
    engine = "vectorized"
    options: ClassVar = {"task_chunk": 1}


@pytest.mark.slow
class TestVectorizedEngineInChunks(ComparedTester):
    engine = "vectorized"
    options: ClassVar = {"task_chunk": 1}

    @pytest.mark.parametrize("memory", [1, 2])
    @pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("not enough memory: 1 TB")])
    def test_out_of_memory_it_halves_and_goes_on_with_the_same_gradients(self, monkeypatch, caplog, memory, error):
        network, batch = network_of("conv4"), random_tasks(5)
        whole = self.meta_gradient(network, batch, task_chunk=None)
        outputs = ManyTasks.query_outputs

        def in_little_memory(weights, fast, chunk):
            if len(chunk) > memory:
                raise error
            return outputs(weights, fast, chunk)

        monkeypatch.setattr(ManyTasks, "query_outputs", in_little_memory)
        engine = self.build(network, task_chunk=None)
        for _ in range(2):
            network.zero_grad()
            with caplog.at_level(logging.WARNING):
                losses, found = engine.meta_gradient(batch, 5)
            for a, b in zip([losses, found, *gradients(network)], [*whole[:2], *whole[2]], strict=True):
                torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13)
        said = [record.message for record in caplog.records]
        assert len(said) == 1  # 3 and 2 of 5 tasks become one at a time
        assert said[0].startswith("Out of memory with 3 tasks at once: 1 from now on (model.inner.task_chunk=1")

    def test_another_error_is_no_lack_of_memory(self, monkeypatch):
        def fails(weights, fast, chunk):
            raise RuntimeError("something else")

        monkeypatch.setattr(ManyTasks, "query_outputs", fails)
        with pytest.raises(RuntimeError, match="something else"):
            self.build(network_of("mlp")).meta_gradient(random_tasks(2), 2)
