"""Tests of samplers: sizes that vary, columns that are kept together or apart, tasks that are groups."""

import tracemalloc
from collections import Counter
from math import ceil, exp, floor, log

import numpy as np
import pytest
import torch

from fewshot.errors import UserError
from fewshot.tasks.class_sampler import ClassSampler
from fewshot.tasks.group_sampler import GroupSampler
from fewshot.tasks.streams import stream_key, uniforms
from fewshot.tasks.table import CLASS, Column, Table

KEY = stream_key("toy", "train", 0)


def table_of(sizes, **columns):
    """A table of classes of these sizes; further columns by row."""
    names = tuple(f"c{i:02d}" for i in range(len(sizes)))
    found = {CLASS: Column(names, np.arange(len(sizes)).repeat(sizes))}
    return Table(found | {name: Column.of(values) for name, values in columns.items()})


def test_sizes_are_drawn_from_their_ranges_and_tasks_of_one_size_lie_together():
    table, sampler = table_of([20] * 30), ClassSampler((5, 20), (1, 10), 3)
    drawn = sampler.draw(table, KEY, range(2000))
    assert sum(map(len, drawn)) == 2000
    ways = Counter(dict.fromkeys(range(5, 21), 0))
    for rows in drawn:
        shots = Counter(rows.support_y[0].tolist())
        assert len(set(shots.values())) == 1
        assert 1 <= shots[0] <= 10
        assert rows.query_y.shape == (len(rows), 3 * rows.class_id.shape[1])
        ways[rows.class_id.shape[1]] += len(rows)
        assert (table.columns[CLASS].values[rows.support] == rows.class_id.gather(1, rows.support_y).numpy()).all()
    assert set(ways) == set(range(5, 21))
    assert min(ways.values()) > 80
    assert len({(rows.support.shape, rows.query.shape) for rows in drawn}) == len(drawn)


@pytest.mark.parametrize(
    "sampler",
    [
        ClassSampler((2, 5), (1, 3), 2),
        ClassSampler((2, 5), "meta_dataset", 10),
        ClassSampler(3, 2, 2, apart="patient"),
        GroupSampler("patient", 1, "rest"),
    ],
)
def test_a_task_is_a_function_of_its_number_whatever_is_drawn_with_it(sampler):
    table = table_of([12] * 6, patient=[f"p{i % 8}" for i in range(72)])

    def tasks(indices):
        return {int(t.index): t for rows in sampler.draw(table, KEY, indices) for t in rows}

    alone = {i: tasks([i])[i] for i in (0, 7, 5)}
    for i, task in alone.items():
        other = tasks(range(8))[i]
        assert torch.equal(task.support, other.support)
        assert torch.equal(task.query, other.query)


def test_meta_datasets_procedure():
    """Triantafillou et al. 2020: queries at most 10 and half of the smallest class; at most 500 support rows, unequal shots."""
    sizes = [6, 40, 300, 20, 90, 15]
    table, sampler = table_of(sizes), ClassSampler((3, 6), "meta_dataset", 10)
    shares, unequal = [], 0
    for rows in sampler.draw(table, KEY, range(300)):
        for task in rows:
            chosen = task.class_id.tolist()
            queries = min(10, *(sizes[c] // 2 for c in chosen))
            assert Counter(task.query_y.tolist()) == dict.fromkeys(range(len(chosen)), queries)
            shots = Counter(task.support_y.tolist())
            assert all(1 <= shots[label] <= sizes[c] - queries for label, c in enumerate(chosen))
            assert len(chosen) <= len(task.support) <= 500
            assert not set(task.support.tolist()) & set(task.query.tolist())
            unequal += len(set(shots.values())) > 1
            shares.append(len(task.support))
    assert unequal > 250
    assert max(shares) > 10 * min(shares)


def test_meta_datasets_formulas():
    """The numbers of a task against the formulas one by one, from the same random numbers."""
    sizes = [6, 40, 300, 20, 90, 15, 12]
    table, sampler = table_of(sizes), ClassSampler((3, 50), "meta_dataset", 10)
    uniform = {use: stream_key(use, *map(int, KEY)) for use in ("size", "shots")}
    for (task,) in sampler.draw(table, KEY, range(60)):
        index, chosen = int(task.index), task.class_id.tolist()
        ways = 3 + int(uniforms(uniform["size"], [index], 1)[0, 0] * 5)  # 3 to min(50, 7 classes)
        assert len(chosen) == ways
        first, *rest = uniforms(uniform["shots"], [index], 1 + ways)[0].tolist()
        queries = min(10, min(sizes[c] for c in chosen) // 2)
        beta = 1 - first
        support = min(500, sum(ceil(beta * min(100, sizes[c] - queries)) for c in chosen))
        weights = [sizes[c] * exp(log(0.5) + u * (log(2) - log(0.5))) for c, u in zip(chosen, rest, strict=True)]
        shots = [
            min(floor(w / sum(weights) * (support - ways)) + 1, sizes[c] - queries)
            for w, c in zip(weights, chosen, strict=True)
        ]
        assert list(Counter(task.support_y.tolist()).values()) == shots
        assert Counter(task.query_y.tolist()) == dict.fromkeys(range(ways), queries)


def test_meta_datasets_tasks_draw_their_rows_independently():
    """Of 40 rows in any order, hardly two draws of 10 queries are the same."""
    table, sampler = table_of([40] * 8), ClassSampler((2, 6), "meta_dataset", 10)
    drawn = [
        tuple(of_class)
        for (task,) in sampler.draw(table, KEY, range(100))
        for of_class in task.query.view(-1, 10).remainder(40).tolist()
    ]
    assert len(set(drawn)) == len(drawn) > 300


def test_meta_datasets_sources_and_alphabets():
    """Each dataset is as likely as the others, each alphabet within one; ways go from 5 to the classes, at most 50."""
    alphabets = ["birds"] * 60 + ["greek"] * 8 + ["latin"] * 6 + ["tiny"] * 4
    data_sets = ["birds"] * 60 + ["omniglot"] * 18
    by_row = {"dataset": np.repeat(data_sets, 2), "alphabet": np.repeat(alphabets, 2)}
    table = table_of([2] * 78, **by_row)
    sampler = ClassSampler((5, 50), "meta_dataset", 10, within=("dataset", "alphabet"))
    sampler.check_sizes("data.train")
    sampler.check(table, "data.train", "train")
    ways: dict[str, Counter[int]] = {}
    for (task,) in sampler.draw(table, KEY, range(1200)):
        (where,) = {alphabets[c] for c in task.class_id.tolist()}
        ways.setdefault(where, Counter())[task.class_id.shape[0]] += 1
    counts = {where: sum(of.values()) for where, of in ways.items()}
    assert set(counts) == {"birds", "greek", "latin"}, "tiny has fewer than 5 classes"
    assert counts["birds"] == pytest.approx(600, abs=70)
    assert counts["greek"] == pytest.approx(300, abs=60)
    assert set(ways["birds"]) == set(range(5, 51))
    assert set(ways["greek"]) == set(range(5, 9))
    assert set(ways["latin"]) == {5, 6}
    assert min(ways["greek"].values()) > 50


def test_several_columns_are_meta_datasets_alone():
    with pytest.raises(UserError, match=r"data\.train\.within=\['a', 'b'\] goes with data\.train\.shots=meta_dataset alone"):
        ClassSampler(5, 1, 1, within=("a", "b")).check_sizes("data.train")
    table = table_of([4] * 6, a=["x"] * 12 + ["y"] * 12, b=["u"] * 12 + ["v"] * 12)
    with pytest.raises(UserError, match=r"ways=5 with data\.val\.within=a, b, but the largest b of the val split, x u, has 3"):
        ClassSampler((5, 50), "meta_dataset", 10, within=("a", "b")).check(table, "data.val", "val")


def test_no_patient_is_on_both_sides_of_any_task():
    random = np.random.Generator(np.random.PCG64(0))
    patients = [f"p{p}" for p in random.integers(0, 25, 60)]
    table, sampler = table_of([20] * 3, patient=patients), ClassSampler(2, 2, 3, apart="patient")
    sampler.check(table, "data.train", "train")
    (rows,) = sampler.draw(table, KEY, range(10_000))
    values = table.columns["patient"].values
    support, query = values[rows.support], values[rows.query]
    assert not (support[:, :, None] == query[:, None, :]).any()
    assert (rows.support.sort(dim=1).values.diff(dim=1) > 0).all()
    assert set(rows.support.flatten().tolist()) == set(rows.query.flatten().tolist()) == set(range(60))


def test_a_class_that_cannot_be_kept_apart_is_named():
    table = table_of([6, 6], patient=["a", "b"] * 3 + ["c"] * 6)
    with pytest.raises(UserError, match=r"data\.train\.apart=patient: class c01 of the train split cannot give 1 support"):
        ClassSampler(2, 1, 1, apart="patient").check(table, "data.train", "train")


def test_a_column_that_differs_within_a_class_cannot_hold_tasks_together():
    table = table_of([2, 2], alphabet=["x", "y", "y", "y"])
    with pytest.raises(UserError, match=r"data\.val\.within=alphabet: the rows of class c00 differ in it"):
        ClassSampler(2, 1, 1, within="alphabet").check(table, "data.val", "val")


@pytest.mark.parametrize(("ways", "message"), [((5, 2), "is no range"), ((0, 4), "at least 1"), ((1, 4), "choose 2 or more")])
def test_ranges_that_are_none_are_refused(ways, message):
    with pytest.raises(UserError, match=message):
        ClassSampler(ways, 1, 1).check_sizes("data.train")


def test_a_long_name_costs_no_room_in_every_row():
    """Sentences are a column: an array of strings would give each the room of the longest."""
    names = ["b", "a", "b" * 20_000] * 700
    tracemalloc.start()
    try:
        column = Column.of(names)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**21
    assert (column.names, column.values[:4].tolist()) == (("a", "b", "b" * 20_000), [1, 0, 2, 1])


def test_each_user_is_one_task_once():
    users = [f"u{i:02d}" for i in range(9) for _ in range(3 + i)]
    table, sampler = Table({"user": Column.of(users)}), GroupSampler("user", 2, "rest", once=True)
    assert sampler.tasks(table) == 9
    drawn = sampler.draw(table, KEY, range(9))
    seen = {}
    for rows in drawn:
        for task in rows:
            assert task.support_y is None
            numbers = [*task.support.tolist(), *task.query.tolist()]
            assert len(task.support) == 2
            assert {users[row] for row in numbers} == {f"u{int(task.index):02d}"}
            seen[int(task.index)] = sorted(numbers)
    assert sorted(row for numbers in seen.values() for row in numbers) == list(range(len(users)))


def test_all_ratings_but_the_queries_may_be_given():
    """Lee et al. 2019: users with a number of ratings between two bounds, of which some are asked for."""
    users = [f"u{i:02d}" for i in range(9) for _ in range(3 + i)]
    table = Table({"user": Column.of(users)})
    sampler = GroupSampler("user", "rest", 2, once=True, rows=(5, 8))
    assert sampler.unfit(table) == {"u00": 3, "u01": 4, "u06": 9, "u07": 10, "u08": 11}
    kept = table.select(np.flatnonzero(~np.isin(users, list(sampler.unfit(table)))))
    sizes = {len(task.support): len(task.query) for rows in sampler.draw(kept, KEY, range(4)) for task in rows}
    assert sizes == {3: 2, 4: 2, 5: 2, 6: 2}
    with pytest.raises(UserError, match=r"data\.test\.rows=\[5, 8\] do not fit user u00 of the test split, which has 3 rows"):
        sampler.check(table, "data.test", "test")
    with pytest.raises(UserError, match=r"data\.val\.rows=\[8, 5\] is no range; give \[smallest, largest\]"):
        GroupSampler("user", 1, 1, rows=(8, 5)).check_sizes("data.val")
    with pytest.raises(UserError, match=r"data\.val\.shots=rest and data\.val\.queries=rest leave open which rows"):
        GroupSampler("user", "rest", "rest").check_sizes("data.val")


def test_users_with_too_few_ratings_are_named():
    table = Table({"user": Column.of(["a", "a", "a", "b"])})
    with pytest.raises(UserError, match=r"user b of the train split, which has 1 rows; .*data\.skip_small_classes=true"):
        GroupSampler("user", 1, 1).check(table, "data.train", "train")
