"""Distances by regularised covariances of the classes' features, fitted to each support set: no outer step (`FeatureHead`).

Bateni, Goyal, Masrani, Wood, Sigal (2020), "Improved Few-Shot Visual Classification" (Simple CNAPS), equations 2 and 3.
"""

from typing import Any

import torch
from torch import Tensor

from fewshot.errors import check_positive
from fewshot.models.embedding import class_means
from fewshot.models.feature_head import FeatureHead, in_span
from fewshot.objectives import one_hot


class Mahalanobis(FeatureHead):
    """Outputs are minus half the squared distances ``(x - mean)' Q^-1 (x - mean)`` to the classes' means.

    A class of k support examples has ``Q = l * its covariance + (1 - l) * the support set's + penalty * I`` with l = k/(k+1).
    Covariances are unbiased; that of one example is 0. Beside the space that the support set spans, Q is the penalty alone.

    Args:
        penalty: on the diagonal (beta), 1 in the paper.
        head: what all heads take (`FeatureHead`).
    """

    def __init__(self, penalty: float, **head: Any) -> None:
        check_positive("model.penalty", penalty)
        super().__init__(**head)
        self._penalty = penalty

    def fit(self, support: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        mean, basis, rows = in_span(support)
        members, means = one_hot(labels, support), class_means(rows, labels)
        counts = members.sum(dim=1)[..., None, None]
        rest = rows.unsqueeze(1) - means.unsqueeze(2)  # (T, N, S, R)
        of_class = (members.mT.unsqueeze(-1) * rest).mT @ rest / (counts - 1).clamp(min=1)
        of_all = (rows.mT @ rows / max(1, rows.shape[1] - 1)).unsqueeze(1)
        own = counts / (counts + 1)
        eye = torch.eye(rows.shape[-1], dtype=rows.dtype, device=rows.device)
        root, failed = torch.linalg.cholesky_ex(own * of_class + (1 - own) * of_all + self._penalty * eye)
        root = root.masked_fill(failed.bool()[..., None, None], torch.nan)  # of features that are not finite
        return mean, basis, means, torch.linalg.solve_triangular(root, eye.expand_as(root), upper=False)

    def outputs(self, head: tuple[Tensor, ...], query: Tensor) -> Tensor:
        mean, basis, means, whitening = head
        query = query - mean
        rows = query @ basis
        beside = (query - rows @ basis.mT).square().sum(dim=-1, keepdim=True) / self._penalty
        within = (rows.unsqueeze(1) - means.unsqueeze(2)) @ whitening.mT  # (T, N, Q, R)
        return -(beside + within.square().sum(dim=-1).mT) / 2
