"""The schedules of MAML++ against the published code's formula, and what cannot be one."""

import pytest

from fewshot.errors import UserError
from fewshot.inner.annealing import Annealing


def published(epoch, epochs, steps):
    """The weights as HowToTrainYourMAML computes them, in epochs, while they are in use."""
    weights, decay, least = [1 / steps] * steps, 1 / steps / epochs, 0.03 / steps
    early = [max(weight - epoch * decay, least) for weight in weights[:-1]]
    return [*early, min(weights[-1] + epoch * (steps - 1) * decay, 1 - (steps - 1) * least)]


@pytest.mark.parametrize("epoch", [0, 1, 5, 9])
def test_query_losses_are_weighted_as_in_the_published_code(epoch):
    annealing = Annealing(outer_steps=100, multi_step=0.1)
    weights = annealing.loss_weights(epoch, 5)
    assert weights == pytest.approx(published(epoch, 10, 5))
    assert sum(weights) == pytest.approx(1)


def test_at_first_all_losses_count_alike_and_in_the_end_the_last_alone():
    annealing = Annealing(outer_steps=1000, multi_step=0.5)
    assert annealing.loss_weights(0, 4) == [0.25] * 4
    assert annealing.loss_weights(499, 4) == pytest.approx([0.0075] * 3 + [0.9775]), "a floor of 3 % stays"
    assert annealing.loss_weights(500, 4) == [0, 0, 0, 1]
    assert Annealing(outer_steps=1000).loss_weights(0, 4) == [0, 0, 0, 1]


def test_second_derivatives_begin_after_their_share():
    annealing = Annealing(outer_steps=10, first_order=0.5)
    assert [annealing.second_order(step) for step in (0, 4, 5, 9)] == [False, False, True, True]
    assert annealing.landmarks == (0, 5)
    assert all(Annealing(outer_steps=10).second_order(step) for step in range(10))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outer_steps": 0}, "model.inner.annealing.outer_steps=0 must be a whole number of at least 1"),
        ({"multi_step": 1.5}, "model.inner.annealing.multi_step=1.5 must be a share of the training, from 0 to 1"),
        ({"first_order": True}, "model.inner.annealing.first_order=True must be a share"),
        ({"first_order": -0.1}, "model.inner.annealing.first_order=-0.1 must be a share"),
    ],
)
def test_impossible_schedules_are_refused(change, message):
    with pytest.raises(UserError) as error:
        Annealing(**({"outer_steps": 10} | change))
    assert str(error.value).startswith(message)
