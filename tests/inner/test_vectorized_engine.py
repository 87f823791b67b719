"""What every engine has to pass, passed by `vectorized`; all tasks at once, in chunks, and step by step."""

from tests.inner.engine_tester import EngineTester


class TestVectorizedEngine(EngineTester):
    engine = "vectorized"


class TestVectorizedEngineStepByStep(EngineTester):
    engine = "vectorized"
    options = {"checkpoint_steps": True}


class TestVectorizedEngineInChunks(EngineTester):
    engine = "vectorized"
    options = {"task_chunk": 2}
