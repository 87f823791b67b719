"""How well predicted values order the rows of a task."""

import torch
from torch import Tensor


def ndcg(predicted: Tensor, values: Tensor, rows: int) -> Tensor:
    """Normalised discounted cumulative gain of the first `rows` rows, ``(...)``.

    The gain of a value r is 2^r - 1 and the discount of rank i is log2(1 + i) (Jaervelin & Kekaelaeinen 2002; Lee et al. 2019,
    equation 5). Equal predictions are in no order: the result is the mean over all their orders, so that it does not depend on
    that of the rows, and a constant predictor has what a random one has on average.

    Args:
        predicted: ``(..., B)``; where one is not a number, neither is the result.
        values: ``(..., B)``, greater than 0.
        rows: that count, from the highest prediction on.
    """
    gains = torch.exp2(values.double()) - 1
    ranked, order = predicted.sort(dim=-1, descending=True)
    begins = torch.ones_like(ranked, dtype=torch.long)
    begins[..., 1:] = (ranked[..., 1:] != ranked[..., :-1]).long()
    tie = begins.cumsum(dim=-1) - 1
    sums, counts = (
        torch.zeros_like(gains).scatter_add(-1, tie, of_rows) for of_rows in (gains.gather(-1, order), torch.ones_like(gains))
    )
    expected = (sums / counts.clamp(min=1)).gather(-1, tie)
    found = _discounted(expected, rows) / _discounted(gains.sort(dim=-1, descending=True).values, rows)
    return found.masked_fill(predicted.isnan().any(dim=-1), torch.nan)


def auroc(scores: Tensor, positive: Tensor) -> Tensor:
    """Area under the receiver operating characteristic, ``(...)``: NaN where a score is NaN, or all rows are of one kind.

    The probability that a positive row scores higher than a negative one, where ties count half (Hanley & McNeil 1982), from
    the mean ranks of Mann and Whitney's U.

    Args:
        scores: ``(..., B)``
        positive: ``(..., B)``, true or false.
    """
    scores = scores.contiguous()
    ordered = scores.sort(dim=-1).values
    below, up_to = torch.searchsorted(ordered, scores), torch.searchsorted(ordered, scores, right=True)
    positives = positive.sum(dim=-1)
    wins = (positive * (below + up_to + 1)).sum(dim=-1) - positives * (positives + 1)  # twice U, in whole numbers
    area = wins.to(scores.dtype) / (2 * positives * (scores.shape[-1] - positives))
    return area.masked_fill(scores.isnan().any(dim=-1), torch.nan)


def _discounted(gains: Tensor, rows: int) -> Tensor:
    first = gains[..., :rows]
    ranks = torch.arange(1, first.shape[-1] + 1, device=gains.device, dtype=gains.dtype)
    return (first / (1 + ranks).log2()).sum(dim=-1)
