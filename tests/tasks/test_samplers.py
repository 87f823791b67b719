"""Tests of tasks: their sizes, their random numbers, and which classes and images each consists of."""

from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from fewshot.errors import UserError
from fewshot.tasks.batch import TaskBatch, TaskRows, TaskSize
from fewshot.tasks.class_pool import ClassPool, draw_tasks
from fewshot.tasks.class_sampler import ClassSampler
from fewshot.tasks.streams import sample_without_replacement, stream_key, uniforms

KEY = stream_key("glyphs", "test", 0)
FAR = 1_000_000
LIKELY = 0.01
"""Least p-value of a uniform draw; the draws are the same in every run."""

reproducible = settings(deadline=None, derandomize=True, max_examples=60)


def pool_of(sizes, groups=None):
    return ClassPool.of(np.array(sizes), groups)


def philox(key, index, count):
    """The numbers of an index by NumPy's own way to place the counter."""
    raw = np.random.Philox(counter=[0, 0, index, 0], key=key).random_raw(count)
    return [int(word) // 2**11 / 2**53 for word in raw]


def shuffled_start(numbers, random):
    """Fisher-Yates on a list: as many numbers as there are random ones."""
    deck = list(numbers)
    for step, u in enumerate(random):
        pick = step + int(u * (len(deck) - step))
        deck[step], deck[pick] = deck[pick], deck[step]
    return deck[: len(random)]


def task_by_hand(pool, spec, key, index):
    ways, images = spec.ways, spec.rows_per_class
    random = philox(key, index, 1 + ways + ways * images)
    group = pool.groups[int(random[0] * len(pool.groups))]
    classes = shuffled_start(group.tolist(), random[1 : 1 + ways])
    starts = range(1 + ways, len(random), images)
    drawn = [shuffled_start(range(pool.sizes[c]), random[s : s + images]) for c, s in zip(classes, starts, strict=True)]
    return classes, drawn


# Sizes


@pytest.mark.parametrize("key", ["ways", "shots", "queries"])
@pytest.mark.parametrize("value", [0, -1, 1.5, 2.0, "5", None, True])
def test_a_size_that_is_no_positive_whole_number_is_refused(key, value):
    with pytest.raises(UserError, match=f"^{key}={value} must be a whole number of at least 1$"):
        TaskSize(**({"ways": 5, "shots": 1, "queries": 15} | {key: value}))


def test_one_way_is_refused_with_a_remedy():
    with pytest.raises(UserError, match=r"data\.train\.ways=1 .*choose 2 or more"):
        ClassSampler(1, 1, 1).check_sizes("data.train")


def test_a_class_gives_its_shots_and_its_queries():
    assert TaskSize(5, 3, 15).rows_per_class == 18


# Random numbers


def test_a_key_depends_on_every_part_its_type_and_its_place():
    parts = [
        ("a", "b", 1),
        ("a", "b", "1"),
        ("a", "b", 2),
        ("a", "c", 1),
        ("b", "a", 1),
        ("ab", 1),
        ("a", "b"),
        ("a", "b", 1, ""),
    ]
    keys = {tuple(stream_key(*part).tolist()) for part in parts}
    assert len(keys) == len(parts)


def test_a_key_is_the_same_on_every_machine():
    assert KEY.tolist() == [2728267774930892609, 4552146664046374531]
    assert KEY.dtype == np.uint64


def test_uniforms_are_the_same_on_every_machine():
    expected = [[0.10270105806509211, 0.5164080133038749], [0.5247191938435561, 0.6649518594556589]]
    assert uniforms(KEY, [0, FAR], 2).tolist() == expected


@pytest.mark.parametrize("index", [0, 1, 7, FAR, 2**40, 2**63])
def test_uniforms_are_those_of_a_philox_whose_counter_starts_there(index):
    np.testing.assert_array_equal(uniforms(KEY, [index], 11)[0], philox(KEY, index, 11))


def test_an_index_alone_gives_what_it_gives_in_a_list():
    many = uniforms(KEY, [3, FAR, 0], 9)
    np.testing.assert_array_equal(uniforms(KEY, [FAR], 9)[0], many[1])


def test_fewer_numbers_are_the_first_of_more():
    np.testing.assert_array_equal(uniforms(KEY, range(5), 3), uniforms(KEY, range(5), 10)[:, :3])


@reproducible
@given(st.lists(st.integers(0, 2**63), min_size=1, max_size=6), st.integers(1, 9), st.integers(0, 99))
def test_uniforms_do_not_depend_on_order_repeats_or_company(indices, count, seed):
    key = stream_key(seed)
    together = uniforms(key, [*indices, *reversed(indices)], count)
    alone = np.concatenate([uniforms(key, [i], count) for i in indices])
    np.testing.assert_array_equal(together, np.concatenate([alone, alone[::-1]]))


def test_streams_interleaved_give_what_they_give_apart():
    other = stream_key("other")
    first, theirs, second = uniforms(KEY, [0], 5), uniforms(other, [0], 5), uniforms(KEY, [1], 5)
    np.testing.assert_array_equal(np.concatenate([first, second]), uniforms(KEY, [0, 1], 5))
    assert not np.isin(theirs, first).any()


def test_indices_give_different_numbers():
    assert len(np.unique(uniforms(KEY, range(1000), 8))) == 8000


def test_uniforms_lie_evenly_in_the_unit_interval():
    numbers = uniforms(KEY, range(2000), 10)
    assert numbers.min() >= 0.0
    assert numbers.max() < 1.0
    assert chisquare(np.bincount((numbers * 50).astype(int).reshape(-1))).pvalue > LIKELY


# Choices


def test_a_choice_is_distinct_and_below_its_row_s_size():
    sizes = np.array([3, 10, 4, 100] * 50)
    chosen = sample_without_replacement(sizes, uniforms(KEY, range(200), 3))
    assert (chosen >= 0).all()
    assert (chosen < sizes[:, None]).all()
    assert all(len(set(row)) == 3 for row in chosen.tolist())


@pytest.mark.parametrize("size", [2, 3, 5, 7, 17, 20, 600, 1023, 1024, 1025, 4112])
def test_the_largest_and_the_least_random_number_stay_within_the_deck(size):
    uniform = np.array([[1.0 - 2.0**-53] * 2, [0.0] * 2])
    chosen = sample_without_replacement(np.array([size, size]), uniform)
    # the last card changes places with the first, so the second draw takes what lies at the end now
    assert chosen.tolist() == [[size - 1, 0], [0, 1]]


def test_a_whole_deck_is_a_permutation():
    chosen = sample_without_replacement(np.full(50, 7), uniforms(KEY, range(50), 7))
    assert (np.sort(chosen, axis=1) == np.arange(7)).all()


def test_each_ordered_pair_is_equally_likely():
    chosen = sample_without_replacement(np.full(12_000, 5), uniforms(KEY, range(12_000), 2))
    count = Counter(map(tuple, chosen.tolist()))
    assert len(count) == 20
    assert chisquare(list(count.values())).pvalue > LIKELY


def test_each_permutation_is_equally_likely():
    chosen = sample_without_replacement(np.full(12_000, 4), uniforms(KEY, range(12_000), 4))
    count = Counter(map(tuple, chosen.tolist()))
    assert len(count) == 24
    assert chisquare(list(count.values())).pvalue > LIKELY


# Tasks


def test_tasks_are_the_same_on_every_machine():
    classes, images = draw_tasks(pool_of([12] * 10), TaskSize(3, 1, 2), KEY, [0, FAR])
    assert classes.tolist() == [[5, 4, 7], [6, 4, 2]]
    assert images.tolist() == [[[3, 0, 6], [7, 3, 9], [10, 9, 11]], [[0, 9, 3], [2, 5, 11], [7, 1, 0]]]


@pytest.mark.parametrize("groups", [None, ["a", "b", "a", "b", "a", "b", "c", "c", "c"]])
def test_tasks_are_those_drawn_by_hand(groups):
    pool, spec = pool_of([5, 6, 7, 8, 9, 10, 11, 12, 13], groups), TaskSize(3, 2, 3)
    classes, images = draw_tasks(pool, spec, KEY, range(40))
    for i in range(40):
        assert (classes[i].tolist(), images[i].tolist()) == task_by_hand(pool, spec, KEY, i)


@reproducible
@given(
    st.lists(st.integers(5, 30), min_size=3, max_size=12),
    st.integers(2, 3),
    st.integers(1, 2),
    st.integers(1, 3),
    st.lists(st.integers(0, 10**9), min_size=1, max_size=4),
)
def test_classes_and_images_of_a_task_are_distinct_and_exist(sizes, ways, shots, queries, indices):
    classes, images = draw_tasks(pool_of(sizes), TaskSize(ways, shots, queries), KEY, indices)
    assert classes.shape == (len(indices), ways)
    assert images.shape == (len(indices), ways, shots + queries)
    for task, rows in zip(classes, images, strict=True):
        assert len(set(task.tolist())) == ways
        for number, drawn in zip(task, rows, strict=True):
            assert len(set(drawn.tolist())) == shots + queries  # so support and query share no image
            assert 0 <= drawn.min() <= drawn.max() < sizes[number]


def test_a_task_does_not_depend_on_the_batch_in_which_it_is_asked_for():
    pool, spec = pool_of([20] * 30), TaskSize(5, 1, 15)
    classes, images = draw_tasks(pool, spec, KEY, range(12))
    for batch in ([11], [3, 7], [9, 2, 2, 0]):
        batch_classes, batch_images = draw_tasks(pool, spec, KEY, batch)
        np.testing.assert_array_equal(batch_classes, classes[batch])
        np.testing.assert_array_equal(batch_images, images[batch])


def test_no_tasks_are_drawn_for_no_indices():
    classes, images = draw_tasks(pool_of([20] * 30), TaskSize(5, 1, 5), KEY, [])
    assert classes.shape == (0, 5)
    assert images.shape == (0, 5, 6)


def test_another_key_draws_other_tasks():
    pool, spec = pool_of([20] * 30), TaskSize(5, 1, 5)
    one, other = (draw_tasks(pool, spec, stream_key("glyphs", "test", seed), range(20))[0] for seed in (0, 1))
    assert (one != other).any(axis=1).all()


def test_each_ordered_pair_of_classes_is_equally_likely_whatever_their_sizes():
    classes, _ = draw_tasks(pool_of([2, 3, 50, 4, 9]), TaskSize(2, 1, 1), KEY, range(12_000))
    count = Counter(map(tuple, classes.tolist()))
    assert len(count) == 20
    assert chisquare(list(count.values())).pvalue > LIKELY


def test_each_ordered_pair_of_images_is_equally_likely():
    _, images = draw_tasks(pool_of([4] * 6), TaskSize(2, 1, 1), KEY, range(6_000))
    count = Counter(map(tuple, images.reshape(-1, 2).tolist()))
    assert len(count) == 12
    assert chisquare(list(count.values())).pvalue > LIKELY


def test_groups_are_equally_likely_and_keep_to_themselves():
    names = ["a"] * 3 + ["b"] * 9 + ["c"] * 4
    classes, _ = draw_tasks(pool_of([5] * 16, names), TaskSize(3, 1, 1), KEY, range(6_000))
    groups = [{names[c] for c in task} for task in classes.tolist()]
    assert all(len(group) == 1 for group in groups)
    assert chisquare(list(Counter(group.pop() for group in groups).values())).pvalue > LIKELY


def test_groups_too_small_for_a_task_are_left_out():
    pool = pool_of([5] * 9, list("aabbbcccc")).with_room_for(3)
    assert [group.tolist() for group in pool.groups] == [[2, 3, 4], [5, 6, 7, 8]]
    classes, _ = draw_tasks(pool, TaskSize(3, 1, 1), KEY, range(200))
    assert set(classes.reshape(-1).tolist()) == set(range(2, 9))


def test_groups_need_not_be_neighbours():
    pool = pool_of([5] * 5, ["x", "y", "x", "y", "x"])
    assert [group.tolist() for group in pool.groups] == [[0, 2, 4], [1, 3]]


def test_without_groups_all_classes_may_meet():
    (group,) = pool_of([5] * 4).groups
    assert group.tolist() == [0, 1, 2, 3]


# Batches


def batch_of(tasks):
    def numbers(count, first):
        return [torch.arange(tasks * 6).reshape(tasks, 6) + 100 * i for i in range(first, first + count)]

    return TaskBatch(*numbers(4, 0), TaskRows(torch.arange(tasks), *numbers(5, 4)))


def tensors_of(batch):
    content = [getattr(batch, field.name) for field in fields(TaskBatch) if field.name != "rows"]
    return content + [getattr(batch.rows, field.name) for field in fields(TaskRows)]


def test_a_batch_is_as_long_as_it_has_tasks():
    assert len(batch_of(3)) == 3
    assert batch_of(3).ways == 6


def test_iteration_takes_the_tasks_one_by_one():
    batch = batch_of(3)
    tasks = list(batch)
    assert len(tasks) == 3
    for whole, *parts in zip(tensors_of(batch), *map(tensors_of, tasks), strict=True):
        assert torch.equal(torch.stack(parts), whole)


def test_a_batch_moves_as_a_whole():
    assert {tensor.device.type for tensor in tensors_of(batch_of(2).to("meta"))} == {"meta"}


def test_other_inputs_leave_the_rest_of_a_batch():
    batch = batch_of(2)
    other = batch.with_inputs(batch.support_x * 2, batch.query_x * 3)
    assert torch.equal(other.support_x, batch.support_x * 2)
    assert torch.equal(other.query_x, batch.query_x * 3)
    for name in ("support_y", "query_y", "rows"):
        assert getattr(other, name) is getattr(batch, name)
