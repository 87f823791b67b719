"""What every engine has to pass, passed by `functional`; all steps kept, and one at a time.

One at a time it equals the reference; what the reference passes by itself is left to the proofs.
"""

from typing import ClassVar

import pytest

from tests.inner.engine_tester import ComparedTester, DifferencesTester, LoopTester, VariantTester


@pytest.mark.slow
class TestFunctionalEngine(VariantTester):
    engine = "functional"


@pytest.mark.proof
class TestFunctionalEngineByDifferences(DifferencesTester):
    engine = "functional"


@pytest.mark.slow
class TestFunctionalEngineStepByStep(ComparedTester):
    engine = "functional"
    options: ClassVar = {"checkpoint_steps": True}


@pytest.mark.proof
class TestFunctionalEngineStepByStepAlone(LoopTester):
    engine = "functional"
    options: ClassVar = TestFunctionalEngineStepByStep.options
