"""What an inner loop does, apart from how it is computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from fewshot.backbones.norm import BatchNorm
from fewshot.errors import UserError, nearest, positive, whole

RATES = ("fixed", "per_step", "per_element")


@dataclass(frozen=True)
class InnerLoop:
    """Gradient steps on a task's support loss (Finn et al. 2017, Algorithm 1, lines 5-6).

    Attributes:
        lr: inner learning rate (alpha) on the *mean* support loss; where rates are learned, what they start from.
        steps: adaptation steps in training.
        eval_steps: adaptation steps in validation and test.
        first_order: drop the derivatives of the inner gradients (FOMAML, section 5.2).
        adapt_norm: whether the scale and shift of batch normalisation are adapted too, as in learn2learn. False adapts the
            other parameters only, as in the original code; the outer loop learns all of them either way.
        adapt: which parameters are adapted, as patterns of their names (``head.*``).
        rates: ``fixed``: `lr` everywhere. ``per_step``: one learned rate a parameter tensor and step (Antoniou et al. 2019,
            section 3.4). ``per_element``: one learned rate a weight (Meta-SGD, Li et al. 2017).
        checkpoint_steps: keep no graph of an inner step but compute it again when the outer gradient passes through: memory of
            one step instead of all, for a third more time.
        task_chunk: tasks that an engine adapts at once, if it can adapt several; None leaves it to the engine.
    """

    lr: float
    steps: int
    eval_steps: int
    first_order: bool = False
    adapt_norm: bool = False
    adapt: Sequence[str] = ("*",)
    rates: str = "fixed"
    checkpoint_steps: bool = False
    task_chunk: int | None = None

    def __post_init__(self) -> None:
        positive("model.inner.lr", self.lr)
        whole("model.inner.steps", self.steps, least=1)
        whole("model.inner.eval_steps", self.eval_steps, least=0)
        if self.rates not in RATES:
            raise UserError(f"model.inner.rates={self.rates} is unknown{nearest(self.rates, RATES)}")
        if self.task_chunk is not None:
            whole("model.inner.task_chunk", self.task_chunk, least=1)

    def adapted(self, network: nn.Module) -> list[bool]:
        """For each of `network.parameters()`, whether the inner loop changes it.

        Raises:
            UserError: it changes none.
        """
        norm = {id(p) for m in network.modules() if isinstance(m, BatchNorm) for p in m.parameters()}
        adapted = [
            any(fnmatchcase(name, pattern) for pattern in self.adapt) and (self.adapt_norm or id(parameter) not in norm)
            for name, parameter in network.named_parameters()
        ]
        if not any(adapted):
            names = ", ".join(sorted({name.split(".")[0] for name, _ in network.named_parameters()}))
            raise UserError(
                f"model.inner.adapt={list(self.adapt)} names no parameter; those of this network begin with {names}"
            )
        return adapted
