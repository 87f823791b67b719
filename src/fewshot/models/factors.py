"""What ratings are predicted by without a network: biases of users and items, and factors by alternating least squares.

Koren, Bell, Volinsky 2009, "Matrix factorization techniques for recommender systems", equations 2 to 5, solved by turns.
Shapes: ``R`` ratings, each of a user and an item by their numbers.
"""

import torch
from torch import Tensor

CHUNK = 2**15
"""Ratings whose outer products are in memory at a time."""
SWEEPS = 30
"""Turns of biases, after which they stand still to six digits."""


def biases(
    user: Tensor, item: Tensor, values: Tensor, users: int, items: int, user_penalty: float, item_penalty: float
) -> tuple[Tensor, Tensor]:
    """Of users and items: the minimum of ``sum (r - b_u - b_i)^2 + user_penalty |b_u|^2 + item_penalty |b_i|^2``.

    Args:
        user, item: ``(R,)``
        values: ``(R,)`` ratings less their mean.
    """
    of_users, of_items = values.new_zeros(users), values.new_zeros(items)
    user_counts, item_counts = user.bincount(minlength=users) + user_penalty, item.bincount(minlength=items) + item_penalty
    for _ in range(SWEEPS):
        of_users = values.new_zeros(users).index_add_(0, user, values - of_items[item]) / user_counts
        of_items = values.new_zeros(items).index_add_(0, item, values - of_users[user]) / item_counts
    return of_users, of_items


def item_factors(
    user: Tensor, item: Tensor, values: Tensor, users: int, items: int, rank: int, penalty: float, sweeps: int
) -> Tensor:
    """Item factors Q ``(items, rank)`` of a minimum of ``sum (r - p_u q_i)^2 + penalty (|P|^2 + |Q|^2)``.

    An item without ratings has zeros. The start is drawn from a seed of its own.

    Args:
        user, item: ``(R,)``
        values: ``(R,)`` ratings less what biases explain.
        sweeps: turns.
    """
    start = torch.randn(items, rank, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    factors: Tensor = (start / rank**0.5).to(values)
    for _ in range(sweeps):
        of_users = ridge_by_owner(user, factors[item], values, users, penalty)
        factors = ridge_by_owner(item, of_users[user], values, items, penalty)
    return factors


def ridge_by_owner(owner: Tensor, inputs: Tensor, values: Tensor, owners: int, penalty: float) -> Tensor:
    """The ridge regression of each owner's rows, ``(owners, D)``.

    Args:
        owner: ``(R,)``
        inputs: ``(R, D)``
        values: ``(R,)``
    """
    width = inputs.shape[1]
    squares = torch.eye(width, dtype=inputs.dtype, device=inputs.device).mul(penalty).expand(owners, -1, -1).clone()
    for rows in torch.split(torch.arange(len(owner), device=owner.device), CHUNK):
        squares.index_add_(0, owner[rows], inputs[rows, :, None] * inputs[rows, None, :])
    products = inputs.new_zeros(owners, width).index_add_(0, owner, inputs * values[:, None])
    solved: Tensor = torch.linalg.solve(squares, products)
    return solved
