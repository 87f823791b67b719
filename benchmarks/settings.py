"""What is measured: the size of tasks, network and inner loop, the same for every contender."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Setting:
    """One training step.

    Attributes:
        shape: of an image, channels, height, width.
        filters: of Conv4; it pools where images have three channels, else its convolutions have stride 2, as published.
        tasks: of a meta-batch.
        steps: of the inner loop.
        lr: of the inner loop.
    """

    shape: tuple[int, int, int]
    filters: int
    tasks: int
    shots: int
    queries: int
    steps: int
    lr: float
    ways: int = 5
    first_order: bool = False

    @property
    def pooled(self) -> bool:
        """Whether Conv4 pools."""
        return self.shape[0] == 3


OMNIGLOT = Setting((1, 28, 28), filters=64, tasks=32, shots=1, queries=1, steps=1, lr=0.5)
MINIIMAGENET = Setting((3, 84, 84), filters=32, tasks=4, shots=1, queries=15, steps=5, lr=0.01)
SETTINGS = {
    "omniglot_5w1s": OMNIGLOT,
    "omniglot_5w5s": replace(OMNIGLOT, shots=5, queries=5, steps=5, lr=0.1),  # as in the examples of higher and torchopt
    "miniimagenet_5w1s": MINIIMAGENET,
}
SWEEP = {
    **{f"omniglot, {tasks} tasks": replace(OMNIGLOT, tasks=tasks) for tasks in (1, 4, 16, 64)},
    **{f"omniglot, {steps} steps": replace(OMNIGLOT, steps=steps) for steps in (3, 5)},
    "omniglot, first order": replace(OMNIGLOT, first_order=True),
    **{f"mini-ImageNet, {steps} steps": replace(MINIIMAGENET, steps=steps) for steps in (1, 3)},
    **{f"mini-ImageNet, {size} pixels": replace(MINIIMAGENET, shape=(3, size, size)) for size in (28, 56)},
    "mini-ImageNet, first order": replace(MINIIMAGENET, first_order=True),
}
EVERY = SETTINGS | SWEEP
