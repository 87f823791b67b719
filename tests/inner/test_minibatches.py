"""Which rows an inner step sees: whole decks, fixed by the task's number."""

import torch

from fewshot.inner.minibatches import shuffled_rows


def test_every_row_is_seen_once_before_any_is_seen_again():
    rows = shuffled_rows([3, 7], rows=6, size=4, steps=6)
    assert rows.shape == (2, 6, 4)
    for of_task in rows:
        decks = of_task.flatten().view(4, 6)
        assert torch.equal(decks.sort(dim=1).values, torch.arange(6).expand(4, 6))
        assert not torch.equal(decks[0], decks[1]), "shuffled anew"


def test_a_task_has_the_same_rows_whoever_it_is_with():
    together = shuffled_rows([5, 9, 2], rows=10, size=3, steps=4)
    assert torch.equal(shuffled_rows([9], rows=10, size=3, steps=4)[0], together[1])
    assert torch.equal(shuffled_rows([9], rows=10, size=3, steps=2)[0], together[1, :2])
    assert not torch.equal(together[0], together[1])


def test_batches_larger_than_the_set_hold_every_row_equally_often():
    rows = shuffled_rows([0], rows=5, size=25, steps=3)
    assert all(of_step.bincount().tolist() == [5] * 5 for of_step in rows[0])
