"""Baseline and Baseline++: classify all training classes, then fit a new head to every task's support set.

Chen, Liu, Kira, Wang, Huang (2019), "A Closer Look at Few-shot Classification", section 3.2; the settings are its code's.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot.errors import check_int, check_positive
from fewshot.models.classifier import Classifier, cosines

MOMENTUM = DAMPENING = 0.9
DECAY = 0.001
"""Of the weights."""


class Baseline(Classifier):
    """The features are frozen, and a head is trained on the support set by stochastic gradient descent.

    Baseline has linear classifiers; Baseline++ (`cosine`) cosines with a direction for each class (`Cosines`), in training and
    for tasks alike.

    Args:
        epochs: passes over the support set.
        batch_size: images in a step.
        lr: rate of the descent.
        classifier: what all models of this kind take (`Classifier`).
    """

    def __init__(self, epochs: int, batch_size: int, lr: float, **classifier: Any) -> None:
        check_int("model.epochs", epochs, least=1)
        check_int("model.batch_size", batch_size, least=1)
        check_positive("model.lr", lr)
        super().__init__(**classifier)
        self._epochs, self._batch_size, self._lr = epochs, batch_size, lr

    def fit_head(self, support: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """The heads of all tasks are trained side by side; they start from one draw and see the images in one order.

        So a task's outputs depend on the task alone.
        """
        random = torch.Generator().manual_seed(0)
        tasks, images, width = support.shape
        ways = int(labels.max()) + 1
        start = torch.rand(ways, width, generator=random, dtype=torch.float64).mul_(2).sub_(1) / width**0.5
        weights = start.to(support).repeat(tasks, 1, 1).requires_grad_()
        numbers = weights.detach().norm(dim=-1) if self._cosine else torch.zeros_like(weights[..., 0])
        head = [weights, numbers.requires_grad_()]
        optimizer = torch.optim.SGD(head, self._lr, momentum=MOMENTUM, dampening=DAMPENING, weight_decay=DECAY)
        with torch.enable_grad():
            for _ in range(self._epochs):
                order = torch.randperm(images, generator=random).to(support.device)
                for rows in torch.split(order, self._batch_size):
                    outputs = self._outputs_of(support[:, rows], *head)
                    # The sum over tasks: each head has the gradient of its own task's mean loss.
                    loss = F.cross_entropy(outputs.flatten(0, 1), labels[:, rows].flatten(), reduction="sum") / len(rows)
                    (*gradients,) = torch.autograd.grad(loss, head)
                    for parameter, gradient in zip(head, gradients, strict=True):
                        parameter.grad = gradient
                    optimizer.step()
        return tuple(part.detach() for part in head)

    def apply_head(self, head: tuple[Tensor, ...], query: Tensor) -> Tensor:
        return self._outputs_of(query, *head)

    def _outputs_of(self, features: Tensor, weights: Tensor, numbers: Tensor) -> Tensor:
        """Outputs ``(T, B, N)`` of heads with a number for each class beside its weights: a magnitude or a bias."""
        return cosines(features, weights, numbers) if self._cosine else features @ weights.mT + numbers.unsqueeze(1)

    @property
    def description(self) -> dict[str, Any]:
        name = "Baseline++" if self._cosine else "Baseline"
        return {**super().description, "model": name, "adapt": ["head"], "eval_epochs": self._epochs, "eval_lr": self._lr}
