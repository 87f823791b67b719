"""Settings of the inner loop; engines compute it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn

from fewshot.backbones.norm import BatchNorm
from fewshot.errors import UserError, check_int, check_positive, suggest
from fewshot.inner.annealing import Annealing

RATES = ("fixed", "per_step", "per_element")
TRANSFORMS = ("none", "meta_curvature", "kronecker")
OUTER = ("unrolled", "implicit", "displacement")


@dataclass(frozen=True)
class InnerLoop:
    """Gradient steps on a task's support loss (Finn et al. 2017, Algorithm 1, lines 5-6), and the kind of outer gradient.

    Attributes:
        lr: inner learning rate (alpha) on the *mean* support loss; where rates are learned, their initial value.
        steps: adaptation steps in training.
        eval_steps: adaptation steps in validation and test.
        first_order: drop the derivatives of the inner gradients (FOMAML, section 5.2).
        adapt_norm: whether the scale and shift of batch normalisation are adapted too, as in learn2learn. False adapts the
            other parameters only, as in the original code; the outer loop learns all of them either way.
        adapt: which parameters are adapted, as patterns of their names (``head.*``). Frozen ones (without ``requires_grad``)
            are left, unless a pattern names nothing else.
        rates: ``fixed``: `lr` everywhere. ``per_step``: one learned rate a parameter tensor and step (Antoniou et al. 2019,
            section 3.4). ``per_element``: one learned rate a weight (Meta-SGD, Li et al. 2017).
        transform: of the inner gradients, learned: ``none``, ``meta_curvature`` or ``kronecker`` (`fewshot.inner.transforms`).
        proximal: strength (lambda) of the pull back to where a task began: ``lambda / 2 * |weights - start|^2`` is added to its
            support loss (iMAML, Rajeswaran et al. 2019, equation 3).
        annealing: schedules over the outer steps; None keeps everything constant.
        outer: the outer gradient. ``unrolled``: of the query loss, through all steps. ``implicit``: of the query loss, by the
            implicit function theorem (`fewshot.inner.implicit`). ``displacement``: from where adaptation to support *and*
            query set ends to where it began (`fewshot.inner.reptile`).
        cg_steps: conjugate-gradient steps of ``implicit``.
        cg_damping: added to the identity in the system that they solve.
        optimizer: makes the optimizer of the steps from weights and ``lr``, one that works element by element
            (``torch.optim.Adam``), new for each task; None is gradient descent. Only for ``displacement``, as the others
            differentiate the steps.
        batch_size: images of a step, drawn in turn from shuffled ones; None takes all. Only for ``displacement``.
        eval_batch_size: the same in validation and test.
        checkpoint_steps: recompute each inner step in the backward pass instead of keeping its graph: the memory of one step
            instead of all, for a third more time.
        task_chunk: largest number of tasks in memory together; None leaves it to the engine.
    """

    lr: float
    steps: int
    eval_steps: int
    first_order: bool = False
    adapt_norm: bool = False
    adapt: Sequence[str] = ("*",)
    rates: str = "fixed"
    transform: str = "none"
    proximal: float = 0.0
    annealing: Annealing | None = None
    outer: str = "unrolled"
    cg_steps: int = 5
    cg_damping: float = 0.0
    optimizer: Callable[..., torch.optim.Optimizer] | None = None
    batch_size: int | None = None
    eval_batch_size: int | None = None
    checkpoint_steps: bool = False
    task_chunk: int | None = None

    def __post_init__(self) -> None:
        check_positive("model.inner.lr", self.lr)
        check_int("model.inner.steps", self.steps, least=1)
        check_int("model.inner.eval_steps", self.eval_steps, least=0)
        check_int("model.inner.cg_steps", self.cg_steps, least=1)
        for key, choices in (("rates", RATES), ("transform", TRANSFORMS), ("outer", OUTER)):
            if getattr(self, key) not in choices:
                raise UserError(f"model.inner.{key}={getattr(self, key)} is unknown{suggest(getattr(self, key), choices)}")
        for key in ("task_chunk", "batch_size", "eval_batch_size"):
            if getattr(self, key) is not None:
                check_int(f"model.inner.{key}", getattr(self, key), least=1)
        for key in ("proximal", "cg_damping"):
            if getattr(self, key) != 0:
                check_positive(f"model.inner.{key}", getattr(self, key))
        self._refuse_what_contradicts()

    def _refuse_what_contradicts(self) -> None:
        if self.outer != "unrolled":
            for key, neutral in (
                ("first_order", False),
                ("annealing", None),
                ("rates", "fixed"),
                ("transform", "none"),
                ("checkpoint_steps", False),
            ):
                if getattr(self, key) != neutral:
                    raise UserError(
                        f"model.inner.{key}={getattr(self, key)} but model.inner.outer={self.outer} goes through no step; "
                        "set model.inner.outer=unrolled"
                    )
        if self.outer != "displacement":
            for key in ("optimizer", "batch_size", "eval_batch_size"):
                if getattr(self, key) is not None:
                    raise UserError(
                        f"model.inner.{key} is for model.inner.outer=displacement but that is {self.outer}; "
                        f"set model.inner.{key}=null"
                    )
        if self.outer == "implicit" and not self.proximal:
            raise UserError("model.inner.proximal=0 but model.inner.outer=implicit needs a pull to the start; choose 1.0 or so")
        if self.first_order and self.annealing is not None and self.annealing.first_order < 1:
            raise UserError(
                f"model.inner.first_order=true but model.inner.annealing.first_order={self.annealing.first_order} would end "
                "it; set one of them"
            )

    def second_order(self, outer_step: int) -> bool:
        """Whether derivatives of the inner gradients are taken at outer step 0, 1, ..."""
        return not self.first_order and (self.annealing is None or self.annealing.second_order(outer_step))

    def loss_weights(self, outer_step: int) -> list[float]:
        """Weights of the query losses after each inner step at outer step 0, 1, ...; they add up to 1."""
        if self.annealing is None:
            return [0.0] * (self.steps - 1) + [1.0]
        return self.annealing.loss_weights(outer_step, self.steps)

    def adapted(self, network: nn.Module) -> list[bool]:
        """For each of `network.parameters()`, whether the inner loop changes it.

        Raises:
            UserError: no parameter would be adapted.
        """
        norm = {id(p) for m in network.modules() if isinstance(m, BatchNorm) for p in m.parameters()}
        every_name = list(network.named_parameters(remove_duplicate=False))
        chosen: set[int] = set()
        for pattern in self.adapt:
            named = [p for name, p in every_name if fnmatchcase(name, pattern) and (self.adapt_norm or id(p) not in norm)]
            chosen.update(id(p) for p in [p for p in named if p.requires_grad] or named)
        adapted = [id(parameter) in chosen for parameter in network.parameters()]
        if not chosen:
            names = ", ".join(sorted({name.split(".")[0] for name, _ in network.named_parameters()}))
            raise UserError(
                f"model.inner.adapt={list(self.adapt)} names no parameter; those of this network begin with {names}"
            )
        return adapted
