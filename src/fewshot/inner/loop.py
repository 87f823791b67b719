"""What an inner loop does, apart from how it is computed."""

from dataclasses import dataclass

from torch import nn

from fewshot.backbones.norm import BatchNorm
from fewshot.errors import positive, whole


@dataclass(frozen=True)
class InnerLoop:
    """Gradient steps on a task's support loss (Finn et al. 2017, Algorithm 1, lines 5-6).

    Attributes:
        lr: inner learning rate (alpha) on the *mean* support loss.
        steps: adaptation steps in training.
        eval_steps: adaptation steps in validation and test.
        first_order: drop the derivatives of the inner gradients (FOMAML, section 5.2).
        adapt_norm: whether the scale and shift of batch normalisation are adapted too, as in learn2learn. False adapts the
            other parameters only, as in the original code; the outer loop learns all of them either way.
    """

    lr: float
    steps: int
    eval_steps: int
    first_order: bool = False
    adapt_norm: bool = False

    def __post_init__(self) -> None:
        positive("model.inner.lr", self.lr)
        whole("model.inner.steps", self.steps, least=1)
        whole("model.inner.eval_steps", self.eval_steps, least=0)

    def adapted(self, network: nn.Module) -> list[bool]:
        """For each of `network.parameters()`, whether the inner loop changes it."""
        norm = {id(p) for m in network.modules() if isinstance(m, BatchNorm) for p in m.parameters()}
        return [self.adapt_norm or id(parameter) not in norm for parameter in network.parameters()]
