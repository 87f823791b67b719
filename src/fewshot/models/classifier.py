"""Classification of all training classes as preparation for tasks: what Baseline, Baseline++, SimpleShot and TIM share."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot.backbones.backbone import Backbone
from fewshot.errors import UserError
from fewshot.models.embedding import EmbeddingLearner
from fewshot.tasks.batch import TaskBatch

CLASSIFIER = "classifier"
"""The part of the network that only training needs."""


class Classifier(EmbeddingLearner):
    """Trained to name the class of every image among all training classes; its features then serve unseen classes.

    A meta-batch is a mini-batch of labelled images, support and query alike. It differs from one of a shuffled epoch: classes
    come uniformly, several images of each, whatever their sizes; an image may come again before all others have come; and
    each task is normalised by itself. Training tasks of many ways and few images (``data.train``) make the difference small.
    The loss in training is that over all training classes, the accuracy that of a task's queries among its own classes.

    Args:
        backbone: from images to features.
        classes: number of training classes; None leaves out the head that tells them apart, without which it cannot be trained.
        label_smoothing: share of each image's label that is spread over all classes.
        cosine: whether classifiers compare directions (`Cosines`) instead of being linear.
        embedding: what all models of this kind take (`EmbeddingLearner`).
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: int | None = None,
        label_smoothing: float = 0.0,
        cosine: bool = False,
        **embedding: Any,
    ) -> None:
        if not 0 <= label_smoothing < 1:
            raise UserError(f"model.label_smoothing={label_smoothing} must be at least 0 and less than 1")
        parts = {}
        if classes is not None:
            parts[CLASSIFIER] = (Cosines if cosine else nn.Linear)(backbone.out_features, classes)
        super().__init__(backbone, parts=parts, **embedding)
        self._label_smoothing, self._cosine = label_smoothing, cosine

    def meta_gradient(self, batch: TaskBatch, tasks: int | None = None) -> tuple[Tensor, ...]:
        if batch.rows.class_id is None:
            raise UserError(f"model {type(self).__name__} learns to tell the training classes apart, and these tasks have none")
        with self.in_training(batch) as statistics:
            features = torch.cat(self.embed(batch), dim=1)
        logits: Tensor = self.network.get_submodule(CLASSIFIER)(features)
        targets = batch.rows.class_id.gather(1, torch.cat([batch.support_y, batch.query_y], dim=1))
        losses = F.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), reduction="none", label_smoothing=self._label_smoothing
        )
        losses = losses.view(targets.shape).mean(dim=1)
        (losses.sum() / (tasks or len(batch))).backward()  # type: ignore[no-untyped-call]
        queries = batch.query_y.shape[1]
        outputs = logits[:, -queries:].gather(2, batch.rows.class_id.unsqueeze(1).expand(-1, queries, -1))
        share = len(batch) / (tasks or len(batch))
        seen = (*statistics, *self.averages(features.detach()))
        return losses.detach(), outputs.detach(), *(share * of_tasks for of_tasks in seen)

    def averages(self, features: Tensor) -> tuple[Tensor, ...]:
        """Means over the features ``(T, B, D)`` of training tasks whose running averages are kept; most models keep none."""
        return ()


def classes_of(checkpoint: dict[str, Any]) -> int | None:
    """Number of training classes of a checkpoint's `Classifier`; None in a checkpoint of another model."""
    weights = (checkpoint.get("state_dict") or {}).get(f"network.{CLASSIFIER}.weight")
    return len(weights) if isinstance(weights, Tensor) and weights.ndim == 2 else None


class Cosines(nn.Module):
    """Cosines of features with a learned direction for each class, each times a learned magnitude, and all times a factor.

    Chen et al. 2019, section 3.2; the magnitude and the factor are its code's.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, features))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        self.magnitude = nn.Parameter(self.weight.detach().norm(dim=-1))

    def forward(self, x: Tensor) -> Tensor:
        """From features ``(..., D)`` to ``(..., classes)``."""
        return cosines(x, self.weight, self.magnitude)


def cosines(x: Tensor, weight: Tensor, magnitude: Tensor) -> Tensor:
    """Of features ``(..., B, D)`` with directions ``(..., classes, D)``, times magnitudes ``(..., classes)`` and a factor.

    The factor is the published code's, which goes by the number of classes.
    """
    factor = 2.0 if weight.shape[-2] <= 200 else 10.0
    return factor * magnitude.unsqueeze(-2) * (F.normalize(x, dim=-1) @ F.normalize(weight, dim=-1).mT)
