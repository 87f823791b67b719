"""Few-shot learning research: honest episodes, exact inner loops, runs that can be trusted."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewshot.predict.learner import FewShotLearner

__all__ = ["FewShotLearner"]


def __getattr__(name: str) -> Any:
    """Imports the learner when it is asked for: the entry points answer before PyTorch is there."""
    if name == "FewShotLearner":
        from fewshot.predict.learner import FewShotLearner

        return FewShotLearner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
