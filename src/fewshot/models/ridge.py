"""Ridge regression of many tasks at once."""

import torch
from torch import Tensor


def ridge_weights(inputs: Tensor, targets: Tensor, penalty: Tensor | float) -> Tensor:
    """The minimum of ``|X W - Y|^2 + penalty |W|^2``, ``(T, D, N)``; differentiable in all arguments.

    Bertinetto et al. 2019, equations 4 and 6: with fewer rows than columns by Woodbury's identity,
    ``W = X' (X X' + penalty I)^-1 Y``, a system as large as the support set instead of the features.

    Args:
        inputs: X ``(T, B, D)``
        targets: Y ``(T, B, N)``
        penalty: greater than 0.
    """
    rows, columns = inputs.shape[-2:]
    eye = torch.eye(min(rows, columns), dtype=inputs.dtype, device=inputs.device)
    if rows <= columns:
        duals: Tensor = torch.linalg.solve(inputs @ inputs.mT + penalty * eye, targets)
        return inputs.mT @ duals
    weights: Tensor = torch.linalg.solve(inputs.mT @ inputs + penalty * eye, inputs.mT @ targets)
    return weights
