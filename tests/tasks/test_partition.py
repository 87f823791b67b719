"""Tasks without replacement: as many as there can be, no row twice, a pure function of the seed, and a fair mixture."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot.errors import UserError
from fewshot.tasks.class_sampler import ClassSampler
from fewshot.tasks.partition import _most
from fewshot.tasks.streams import stream_key
from fewshot.tasks.table import Column, Table

KEY = stream_key("toy", "test", 0)


def table_of(sizes, **columns):
    names = [f"class{i:04d}" for i, size in enumerate(sizes) for _ in range(size)]
    return Table({"class": Column.of(names)} | {name: Column.of(values) for name, values in columns.items()})


def rows_of(sampler, table, key=KEY):
    """All tasks: classes ``(M, N)``, and rows ``(M, N*(K+Q))``."""
    (drawn,) = sampler.draw(table, key, range(sampler.tasks(table)))
    return drawn.class_id.numpy(), np.concatenate([drawn.support.numpy(), drawn.query.numpy()], axis=1)


@pytest.mark.parametrize(("sizes", "tasks"), [([20] * 423, 84), ([20] * 1692, 338), ([600] * 20, 148)])
def test_published_test_parts_give_as_many_tasks_as_is_known(sizes, tasks):
    """5-way 1-shot with 15 queries: Vinyals' 423 characters, these with rotations, mini-ImageNet's 20 classes."""
    assert ClassSampler(5, 1, 15, replacement=False).tasks(table_of(sizes)) == tasks


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.lists(st.integers(3, 40), min_size=3, max_size=9))
def test_no_row_is_in_two_tasks_and_no_class_twice_in_one(sizes):
    table, sampler = table_of(sizes), ClassSampler(3, 1, 2, replacement=False)
    classes, rows = rows_of(sampler, table)
    assert len(classes) == sampler.tasks(table) == most_by_search([size // 3 for size in sizes], 3)
    assert len(np.unique(rows)) == rows.size
    assert (np.diff(np.sort(classes, axis=1), axis=1) > 0).all()


def most_by_search(blocks, ways):
    return max(m for m in range(sum(blocks) // ways + 1) if sum(min(block, m) for block in blocks) >= ways * m)


@pytest.mark.parametrize("blocks", [[1, 1, 9], [4, 4, 4, 4], [10, 1, 1, 1, 1], [0, 3, 3, 3]])
def test_the_most_tasks_are_those_of_a_search(blocks):
    assert _most(np.array(blocks), 3) == most_by_search(blocks, 3)


def test_rows_are_of_the_classes_of_their_task():
    table, sampler = table_of([7, 9, 20, 12]), ClassSampler(2, 1, 2, replacement=False)
    (drawn,) = sampler.draw(table, KEY, [3, 0])
    values = table.columns["class"].values
    assert (values[drawn.support.numpy()] == drawn.class_id.numpy()).all()
    assert (values[drawn.query.numpy()] == drawn.class_id.numpy().repeat(2, axis=1)).all()
    assert drawn.index.tolist() == [3, 0]


def test_tasks_are_a_pure_function_of_the_seed():
    sampler = ClassSampler(3, 1, 2, replacement=False)
    classes, rows = rows_of(sampler, table_of([12] * 8))
    again, same = rows_of(sampler, table_of([12] * 8))
    assert (classes == again).all()
    assert (rows == same).all()
    (two,) = sampler.draw(table_of([12] * 8), KEY, [2, 5])
    assert (two.class_id.numpy() == classes[[2, 5]]).all()
    other, _ = rows_of(sampler, table_of([12] * 8), stream_key("toy", "test", 1))
    assert (classes != other).any()


def test_every_pair_of_classes_meets_as_often():
    """Over seeds; a partition that dealt classes in turn would have the same classes meet each time."""
    table, sampler = table_of([30] * 6), ClassSampler(2, 1, 2, replacement=False)
    pairs = Counter()
    for seed in range(150):
        classes, _ = rows_of(sampler, table, stream_key("toy", "test", seed))
        pairs.update(tuple(sorted(pair)) for pair in classes.tolist())
    counts = [pairs[pair] for pair in itertools.combinations(range(6), 2)]
    assert sum(counts) == 150 * 30
    assert max(counts) < 1.4 * min(counts)


def test_tasks_within_groups_take_their_classes_from_one_and_are_mixed():
    table = table_of([6] * 10, alphabet=["a"] * 24 + ["b"] * 36)
    sampler = ClassSampler(2, 1, 2, within="alphabet", replacement=False)
    classes, _ = rows_of(sampler, table)
    groups = classes >= 4
    assert len(classes) == 4 + 6
    assert (groups.all(axis=1) | (~groups).all(axis=1)).all()
    assert 0 < groups[:5, 0].sum() < 5 or 0 < groups[:6, 0].sum() < 6


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (ClassSampler((2, 3), 1, 2, replacement=False), r"data\.test\.replacement=false .* data\.test\.ways=\[2, 3\]"),
        (ClassSampler(2, "meta_dataset", 2, replacement=False), r"data\.test\.shots=meta_dataset; choose one number"),
        (ClassSampler(2, 1, 2, apart="patient", replacement=False), r"does not go with data\.test\.apart=patient"),
    ],
)
def test_what_cannot_be_partitioned_is_refused(sampler, message):
    with pytest.raises(UserError, match=message):
        sampler.check_sizes("data.test")


def test_with_replacement_there_is_no_end():
    assert ClassSampler(2, 1, 2).tasks(table_of([6] * 4)) is None
