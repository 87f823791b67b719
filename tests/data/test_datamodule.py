"""Tests of the data module: which tasks a run sees, from which images, and which settings are refused."""

import pickle
from collections import defaultdict
from dataclasses import fields
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from fewshot.data.parts import class_tasks
from fewshot.data.source import SPLITS
from fewshot.data.splits import KFold
from fewshot.tasks.batch import TaskBatch, TaskRows, count_tasks
from tests.data.fakes import CountedToy, Uneven, class_rows, data_module, refusal
from tests.toy import IMAGES, EvalTasks, Toy

OPENED_BY = {"fit": {"train", "val"}, "validate": {"val"}, "test": {"test"}}


def opened(module, *stages):
    for stage in stages or ("fit", "test"):
        module.setup(stage)
    return module


def trained(module, steps, rank=0, of=1):
    """The module as a trainer of so many steps holds it, in one of its processes."""
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    module.trainer = SimpleNamespace(max_steps=steps, training=True, global_rank=rank, world_size=of, strategy=strategy)
    return module


def same(one: TaskBatch, other: TaskBatch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors_of(one), tensors_of(other), strict=True))


def tensors_of(batch: TaskBatch) -> list[torch.Tensor]:
    content = [getattr(batch, f.name) for f in fields(TaskBatch) if f.name != "rows"]
    return content + [getattr(batch.rows, f.name) for f in fields(TaskRows)]


def all_same(ones, others) -> bool:
    return len(ones) == len(others) and all(same(one, other) for one, other in zip(ones, others, strict=True))


def total_of(module, split):
    return module.tasks.get(split, 40)


def batches(module, split):
    return [batch for (batch,) in module.meta_batches(split, total_of(module, split))]


def loaded(loader):
    """The tasks of each meta-batch that a loader yields."""
    return [batch for (batch,) in loader]


def ids_of(task):
    return [*task.rows.support.tolist(), *task.rows.query.tolist()]


# Meta-batches


@pytest.mark.parametrize("split", SPLITS)
def test_batches_have_the_shapes_of_the_legend(toy_data, split):
    module = opened(toy_data())
    ways, shots, queries = (3, 1, 2) if split == "train" else (3, 1, 4)
    first = batches(module, split)[0]
    assert len(first) == 4
    assert first.support_x.shape == (4, ways * shots, 1, 16, 16)
    assert first.query_x.shape == (4, ways * queries, 1, 16, 16)
    assert first.support_x.dtype == first.query_x.dtype == torch.uint8
    assert first.support_y.tolist() == [[i for i in range(ways) for _ in range(shots)]] * 4
    assert first.query_y.tolist() == [[i for i in range(ways) for _ in range(queries)]] * 4
    assert first.index.tolist() == [0, 1, 2, 3]
    assert first.rows.support.dtype == first.query_y.dtype == torch.int64


def test_several_shots_are_grouped_by_class(toy_data):
    module = opened(toy_data(shots=3))
    assert batches(module, "train")[0].support_y[0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("split", SPLITS)
def test_images_are_the_rows_that_their_ids_say(toy_data, split):
    module = opened(toy_data())
    source = np.concatenate(list(Toy().images(split)))
    for batch in batches(module, split):
        np.testing.assert_array_equal(batch.support_x.numpy(), source[batch.rows.support])
        np.testing.assert_array_equal(batch.query_x.numpy(), source[batch.rows.query])


@pytest.mark.parametrize("source", [Toy(), Uneven()])
def test_a_label_means_one_class_in_support_and_query(toy_data, source):
    module = opened(toy_data(source=source, shots=2, queries=4), "fit")
    for batch in batches(module, "train"):
        for task in batch:
            classes = defaultdict(set)
            ids = zip([*task.support_y.tolist(), *task.query_y.tolist()], ids_of(task), strict=True)
            for label, row in ids:
                classes[label].add(int(class_rows(module.prepared["train"], row)))
            assert sorted(classes) == [0, 1, 2]
            assert all(len(members) == 1 for members in classes.values())
            assert len(set.union(*classes.values())) == 3


@pytest.mark.parametrize("split", SPLITS)
def test_support_and_query_share_no_image(toy_data, split):
    module = opened(toy_data(eval=EvalTasks(3, 4, 8)))
    for batch in batches(module, split):
        for task in batch:
            assert len(set(ids_of(task))) == len(ids_of(task))


def test_every_class_and_every_image_takes_part(toy_data):
    module = opened(toy_data(), "fit")
    seen = {row for (batch,) in module.meta_batches("train", 400) for row in [*batch.rows.support.flatten().tolist()]}
    assert seen == set(range(10 * IMAGES))


def test_the_last_batch_holds_what_is_left(toy_data):
    module = opened(toy_data())
    assert [len(batch) for batch in loaded(module.val_dataloader())] == [4, 4, 2]
    assert [len(batch) for batch in loaded(module.test_dataloader())] == [4, 4, 4, 2]
    assert [i for batch in batches(module, "test") for i in batch.index.tolist()] == list(range(14))


def test_a_list_that_divides_has_no_empty_batch(toy_data):
    module = opened(toy_data(val_tasks=8))
    assert [len(batch) for batch in loaded(module.val_dataloader())] == [4, 4]


@pytest.mark.parametrize("i", [-1, 3])
def test_there_is_no_batch_beyond_the_list(toy_data, i):
    with pytest.raises(IndexError):
        opened(toy_data()).meta_batches("val", 10)[i]


def test_a_run_has_a_meta_batch_for_each_step(toy_data):
    module = trained(opened(toy_data(), "fit"), 5)
    index = [batch.index.tolist() for batch in loaded(module.train_dataloader())]
    assert index == [list(range(4 * i, 4 * i + 4)) for i in range(5)]


def test_a_resumed_run_begins_with_its_next_step(toy_data):
    module = trained(opened(toy_data(), "fit"), 5)
    whole = loaded(module.train_dataloader())
    module.first_step = 3
    assert all_same(loaded(module.train_dataloader()), whole[3:])


@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader", "test_dataloader"])
@pytest.mark.parametrize("of", [2, 3, 5])
def test_processes_share_each_meta_batch(toy_data, loader, of):
    whole = loaded(getattr(trained(opened(toy_data()), 3), loader)())
    shares = [list(getattr(trained(opened(toy_data()), 3, rank, of), loader)()) for rank in range(of)]
    for i, batch in enumerate(whole):
        parts = [share[i] for share in shares]  # none, of a process that has no task
        assert all_same([task for part in parts for tasks in part for task in tasks], list(batch))
        counts = [count_tasks(part) for part in parts]
        assert max(counts) - min(counts) <= 1


def test_the_training_loader_needs_a_trainer(toy_data):
    with pytest.raises(RuntimeError, match="trainer"):
        opened(toy_data()).train_dataloader()


@pytest.mark.parametrize("split", SPLITS)
def test_shuffled_labels_are_dealt_anew_among_the_same_images(toy_data, split):
    one, other = (opened(toy_data(shots=2, shuffled_labels=shuffled)) for shuffled in (False, True))
    moved = 0
    for batch, shuffled in zip(batches(one, split), batches(other, split), strict=True):
        assert torch.equal(shuffled.rows.support, batch.rows.support)
        assert torch.equal(shuffled.query_x, batch.query_x)
        for labels, dealt in ((batch.support_y, shuffled.support_y), (batch.query_y, shuffled.query_y)):
            assert torch.equal(dealt.sort(dim=1).values, labels)
            moved += int((dealt != labels).sum())
    assert moved > 0
    assert all_same(batches(opened(toy_data(shots=2, shuffled_labels=True, meta_batch_size=4)), split), batches(other, split))


def test_shuffled_labels_differ_between_support_and_query_and_between_tasks(toy_data):
    module = opened(toy_data(shots=4, queries=4, shuffled_labels=True), "fit")
    dealt = [labels for batch in batches(module, "train") for labels in [*batch.support_y.tolist(), *batch.query_y.tolist()]]
    assert len(set(map(tuple, dealt))) > 0.9 * len(dealt)


# The same tasks again


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:This DataLoader will create:UserWarning")
def test_workers_gather_the_same_tasks(toy_data):
    alone, helped = (trained(opened(toy_data(num_workers=n)), 7) for n in (0, 2))
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        assert all_same(loaded(getattr(alone, name)()), loaded(getattr(helped, name)()))


@pytest.mark.parametrize("split", SPLITS)
def test_a_second_module_sees_the_same_tasks(toy_data, tmp_path, split):
    one, other = (opened(toy_data(cache_dir=str(tmp_path / name))) for name in ("a", "b"))
    assert all_same(batches(one, split), batches(other, split))


@pytest.mark.parametrize("split", SPLITS)
def test_tasks_do_not_depend_on_the_size_of_the_meta_batch(toy_data, split):
    one, other = (opened(toy_data(meta_batch_size=size)) for size in (4, 7))
    tasks, others = ([task for batch in batches(module, split) for task in batch] for module in (one, other))
    assert all_same(tasks, others)


def test_a_batch_in_the_middle_is_what_it_is_in_order(toy_data):
    module = opened(toy_data(), "fit")
    in_order = batches(module, "train")
    assert same(module.meta_batches("train", 10**9)[6][0], in_order[6])
    assert module.meta_batches("train", 10**9)[10**8][0].index.tolist() == [4 * 10**8 + i for i in range(4)]


def test_the_seed_of_a_run_changes_training_alone(toy_data):
    one, other = (opened(toy_data(seed=seed)) for seed in (0, 1))
    for split in ("val", "test"):
        assert all_same(batches(one, split), batches(other, split))
    ids = [[ids_of(task) for batch in batches(module, "train") for task in batch] for module in (one, other)]
    assert not any(mine == theirs for mine, theirs in zip(*ids, strict=True))


def test_the_seed_of_evaluation_changes_its_lists_alone(toy_data):
    one, other = (opened(toy_data(eval=EvalTasks(3, 1, 4, seed=seed))) for seed in (0, 1))
    assert all_same(batches(one, "train"), batches(other, "train"))
    for split in ("val", "test"):
        assert not any(same(a, b) for a, b in zip(batches(one, split), batches(other, split), strict=True))


def test_lists_of_validation_and_test_are_drawn_apart(toy_data):
    module = opened(toy_data(test_tasks=10))
    assert not any(
        torch.equal(a.rows.query, b.rows.query) for a, b in zip(batches(module, "val"), batches(module, "test"), strict=True)
    )


def test_data_sets_are_drawn_apart(toy_data):
    class Other(Toy):
        def __init__(self):
            super().__init__()
            self.name = "other"

    one, other = opened(toy_data()), opened(toy_data(source=Other()))
    assert not any(
        torch.equal(a.rows.query, b.rows.query) for a, b in zip(batches(one, "val"), batches(other, "val"), strict=True)
    )


def test_batches_pickle_small(toy_data):
    tasks = opened(toy_data()).meta_batches("train", 40)
    assert len(tasks[0][0]) == 4
    data = pickle.dumps(tasks)
    assert len(data) < 6000
    assert same(pickle.loads(data)[3][0], tasks[3][0])  # noqa: S301  its own


# Splits apart


def sampled(module, split, total):
    """The names of the classes, and the bytes of the images, that tasks of a split really consist of."""
    prepared = module.prepared[split]
    names, images = set(), set()
    for (batch,) in module.meta_batches(split, total):
        for ids, x in ((batch.rows.support, batch.support_x), (batch.rows.query, batch.query_x)):
            names |= {prepared.table.classes[c] for c in class_rows(prepared, ids.flatten())}
            images |= {image.tobytes() for image in x.flatten(0, 1).numpy()}
    return names, images


def assert_apart(sets):
    for one, other in combinations(SPLITS, 2):
        assert not sets[one] & sets[other]


def test_splits_share_no_class_and_no_image_as_sampled(toy_data):
    module = opened(toy_data())
    drawn = {split: sampled(module, split, 300) for split in SPLITS}
    for split in SPLITS:
        assert drawn[split][0] == {c.name for c in Toy().classes(split)}
        assert len(drawn[split][1]) == 10 * IMAGES
        assert drawn[split][1] == {image.tobytes() for images in Toy().images(split) for image in images[:, None]}
    assert_apart({split: drawn[split][0] for split in SPLITS})
    assert_apart({split: drawn[split][1] for split in SPLITS})


@pytest.mark.real_data
@pytest.mark.slow
def test_real_splits_share_no_character_and_no_drawing_as_sampled(real_omniglot):
    source, cache, prepared = real_omniglot
    module = data_module(source, cache, ways=20, eval=EvalTasks(20, 1, 15), meta_batch_size=50)
    module.prepare(SPLITS)
    opened(module)
    drawn = {split: sampled(module, split, 1000 if split == "train" else 300) for split in SPLITS}
    for split in SPLITS:
        assert drawn[split][0] <= {c.name for c in prepared[split].classes}
        assert len(drawn[split][0]) > 0.95 * len(prepared[split].classes)
    assert_apart({split: {name.rpartition("/")[0] for name in drawn[split][0]} for split in SPLITS})
    assert_apart({split: drawn[split][1] for split in SPLITS})


# Stages


@pytest.mark.parametrize("stage", OPENED_BY)
def test_a_stage_opens_its_splits_alone(toy_data, stage):
    module = opened(toy_data(), stage)
    for split in SPLITS:
        if split in OPENED_BY[stage]:
            assert len(module.meta_batches(split, 5)[0][0]) == 4
        else:
            with pytest.raises(RuntimeError, match=f"the {split} split is closed"):
                module.meta_batches(split, 5)


def test_no_split_is_open_before_a_stage(toy_data):
    module = toy_data()
    for split in SPLITS:
        with pytest.raises(RuntimeError, match="closed"):
            module.meta_batches(split, 1)


def test_the_test_loader_is_closed_during_fit(toy_data):
    module = opened(toy_data(), "fit")
    with pytest.raises(RuntimeError, match="the test split is closed"):
        module.test_dataloader()
    assert len(list(opened(module, "test").test_dataloader())) == 4


def test_checking_and_fitting_without_test_never_touch_it(toy_data):
    class NoTest(Toy):
        def classes(self, split):
            assert split != "test"
            return super().classes(split)

    module = opened(toy_data(("train", "val"), source=NoTest()), "fit")
    assert sorted(module.prepared) == ["train", "val"]
    assert len(batches(module, "val")) == 3


def test_checking_makes_no_image(toy_data, tmp_path):
    source = CountedToy()
    module = toy_data((), source=source)
    module.check(SPLITS)
    assert source.made == 0
    assert not (tmp_path / "cache").exists()


# Images on their way to the model


def batch_of(images):
    rows = torch.zeros(images.shape[:2], dtype=torch.int64)
    return TaskBatch(images, rows, images.flip(1), rows, TaskRows(rows[:, 0], rows, rows, rows, rows, rows))


def test_images_are_scaled_to_one_then_normalised_channel_by_channel():
    class Colours(Toy):
        image_shape = (3, 16, 16)

    module = data_module(Colours(), "never", mean=[0.5, 0.0, 0.25], std=[0.5, 2.0, 1.0])
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).repeat_interleave(256).reshape(1, 1, 3, 16, 16)
    images = torch.cat([images, images.flip(2)], dim=1)
    (scaled,) = module.scaled([batch_of(images)])
    expected = torch.tensor([[-1.0, 0.1, 0.75], [1.0, 0.1, -0.25]])
    torch.testing.assert_close(scaled.support_x[0].mean(dim=(2, 3)), expected)
    torch.testing.assert_close(scaled.query_x[0].mean(dim=(2, 3)), expected.flip(0))
    assert scaled.support_x.dtype == torch.float32
    assert scaled.support_x.shape == (1, 2, 3, 16, 16)
    assert images.dtype == torch.uint8


@pytest.mark.parametrize("training", [True, False])
def test_training_images_alone_are_augmented(toy_data, training):
    module = opened(toy_data(augment=[v2.RandomInvert(p=1.0)]), "fit")
    module.trainer = SimpleNamespace(max_steps=1, training=training)
    batch = batches(module, "train")[0]
    (seen,) = module.on_after_batch_transfer([batch], 0)
    inverted = batch.with_inputs(255 - batch.support_x, 255 - batch.query_x)
    assert same(seen, module.scaled([inverted if training else batch])[0])


def test_augmentation_depends_on_the_task_not_on_its_batch(toy_data):
    crop = v2.RandomCrop(16, padding=4)
    one, other = (trained(opened(toy_data(meta_batch_size=size, augment=[crop]), "fit"), 9) for size in (4, 1))
    tasks, others = (
        [task for batch in batches(module, "train") for task in module.on_after_batch_transfer([batch], 0)[0]]
        for module in (one, other)
    )
    assert all_same(tasks, others)


def test_support_and_query_are_augmented_apart(toy_data):
    module = trained(opened(toy_data(augment=[v2.RandomCrop(16, padding=8)]), "fit"), 1)
    alike = batches(module, "train")[0]
    alike = alike.with_inputs(alike.support_x, alike.support_x)
    (seen,) = module.on_after_batch_transfer([alike], 0)
    assert not torch.equal(seen.support_x, seen.query_x)


# Settings that are refused


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"meta_batch_size": 0}, ["data.meta_batch_size=0", "at least 1"]),
        ({"meta_batch_size": -4}, ["data.meta_batch_size=-4", "at least 1"]),
        ({"meta_batch_size": 2.5}, ["data.meta_batch_size=2.5", "whole number"]),
        ({"val_tasks": 0}, ["data.val_tasks=0", "at least 1"]),
        ({"test_tasks": -1}, ["data.test_tasks=-1", "at least 1"]),
        ({"num_workers": -1}, ["data.num_workers=-1", "at least 0"]),
        ({"image_shape": [3, 16, 16]}, ["data.image_shape=[3, 16, 16]", "toy", "data.image_shape=[1, 16, 16]"]),
        ({"image_shape": [1, 16]}, ["data.image_shape=[1, 16]", "set data.image_shape=[1, 16, 16]"]),
        ({"ways": 1}, ["data.train.ways=1", "choose 2 or more"]),
        ({"shots": 0}, ["data.train.shots=0", "at least 1"]),
        ({"queries": "many"}, ["data.train.queries=many", "whole number"]),
        ({"eval": EvalTasks(1, 1, 1)}, ["data.val.ways=1", "choose 2 or more"]),
        ({"eval": EvalTasks(3, 0, 1)}, ["data.val.shots=0", "at least 1"]),
        ({"eval": EvalTasks(3, 1, -2)}, ["data.val.queries=-2", "at least 1"]),
        ({"mean": [0.5, 0.5]}, ["data.mean=[0.5, 0.5]"]),
        ({"std": [0.5, 0.5, 0.5]}, ["data.std=[0.5, 0.5, 0.5]"]),
        ({"std": [0.0]}, ["data.std=[0.0]"]),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(toy_data, changes, parts):
    message = refusal(toy_data, (), **changes)
    assert all(part in message for part in parts)


@pytest.mark.parametrize(
    ("split", "changes", "parts"),
    [
        ("train", {"ways": 11}, ["data.train.ways=11", "train split has 10 classes", "choose data.train.ways<=10"]),
        ("val", {"eval": EvalTasks(11, 1, 1)}, ["data.val.ways=11", "val split has 10", "choose data.val.ways<=10"]),
        ("test", {"eval": EvalTasks(11, 1, 1)}, ["data.test.ways=11", "test split has 10", "choose data.test.ways<=10"]),
        ("train", {"shots": 5, "queries": 8}, ["data.train.shots=5", "need 13", "data.train.shots+data.train.queries<=12"]),
        ("val", {"eval": EvalTasks(3, 1, 12)}, ["data.val.queries=12", "val000", "data.val.shots+data.val.queries<=12"]),
        ("test", {"eval": EvalTasks(6, 1, 1, within="group")}, ["within=group", "choose data.test.ways<=5"]),
    ],
)
def test_tasks_larger_than_a_split_are_refused(toy_data, split, changes, parts):
    module = toy_data((), **changes)
    for other in set(SPLITS) - {split, *({"val", "test"} if "eval" in changes else ())}:
        module.check([other])
    message = refusal(module.check, [split])
    assert all(part in message for part in parts)


def test_tasks_as_large_as_a_split_are_drawn(toy_data):
    module = opened(toy_data(ways=10, shots=4, queries=8, eval=EvalTasks(5, 1, 11, within="group")))
    everything = list(range(10 * IMAGES))
    assert all(sorted(ids_of(task)) == everything for batch in batches(module, "train") for task in batch)
    assert all(len(set(ids_of(task))) == 5 * IMAGES for batch in batches(module, "val") for task in batch)


def test_the_smallest_class_decides(toy_data):
    module = toy_data((), source=Uneven(), shots=1, queries=8)
    message = refusal(module.check, ["train"])
    assert "train000 of the train split has 8" in message
    toy_data(("train",), source=Uneven(), shots=1, queries=7)


def test_refusals_hold_for_what_is_prepared_already(toy_data):
    toy_data()
    module = toy_data((), ways=11)
    assert "data.train.ways=11" in refusal(module.check, ["train"])


def test_tasks_within_a_group_hold_for_evaluation_alone(toy_data):
    module = opened(toy_data(source=Uneven(12), ways=12, eval=EvalTasks(3, 1, 2, within="group")))
    for split in ("val", "test"):
        prepared = module.prepared[split]
        for batch in batches(module, split):
            column = prepared.table.columns["group"]
            assert {column.names[value] for value in column.values[batch.rows.query.flatten()]} == {"large"}
    assert len(set(class_rows(module.prepared["train"], ids_of(next(iter(batches(module, "train")[0])))))) == 12


def test_without_replacement_a_part_has_as_many_tasks_as_its_rows_make(toy_data):
    """Ten classes of twelve images: two blocks of five each, three classes in a task."""
    module = opened(toy_data(test=class_tasks(Toy(), 3, 1, 4, replacement=False)))
    assert module.tasks == {"val": 10, "test": 6}
    assert (module.parts["val"].replacement, module.parts["test"].replacement) == (True, False)
    used = [
        row
        for tasks in batches(module, "test")
        for rows in (tasks.rows.support, tasks.rows.query)
        for row in rows.flatten().tolist()
    ]
    assert len(used) == len(set(used)) == 6 * 15


def test_units_of_a_split_are_counted_by_what_it_deals_out(toy_data):
    assert toy_data().splits_units == {"train": 10, "val": 10, "test": 10}
    groups = KFold(folds=3, by="group")
    assert toy_data(split=groups, source=Toy(groups=4)).splits_units == {"train": 1, "val": 1, "test": 2}
