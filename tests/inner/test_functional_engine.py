"""What every engine has to pass, passed by `functional`; all steps kept, and one at a time."""

from typing import ClassVar

import pytest

from tests.inner.engine_tester import DifferencesTester, VariantTester


class TestFunctionalEngine(VariantTester):
    engine = "functional"


@pytest.mark.proof
class TestFunctionalEngineByDifferences(DifferencesTester):
    engine = "functional"


@pytest.mark.slow
class TestFunctionalEngineStepByStep(VariantTester):
    engine = "functional"
    options: ClassVar = {"checkpoint_steps": True}
