"""Training tasks of another size than the tested ones, and the numbers of their classes."""

import torch

from tests.data.fakes import refusal
from tests.toy import Toy, TrainTasks


def test_training_tasks_have_their_own_size_and_tested_ones_keep_theirs(toy_data):
    data = toy_data(train=TrainTasks(ways=6, shots=3, queries=2))
    data.setup("fit")
    train, val = data.meta_batches("train", 4)[0][0], data.meta_batches("val", 4)[0][0]
    assert (train.support_x.shape[:2], train.query_x.shape[:2]) == ((4, 18), (4, 12))
    assert (val.support_x.shape[:2], val.query_x.shape[:2]) == ((4, 3), (4, 12))


def test_without_them_they_are_as_large_as_the_module_says(toy_data):
    assert toy_data().parts["train"].description == toy_data(train=TrainTasks(3, 1, 2)).parts["train"].description


def test_training_tasks_larger_than_the_split_are_refused_by_their_key(toy_data):
    assert "data.train.ways=11 but the train split has 10 classes" in refusal(toy_data, train=TrainTasks(11, 1, 2))
    assert "data.train.shots=9 and data.train.queries=9" in refusal(toy_data, train=TrainTasks(2, 9, 9))
    assert "data.train.queries=0 must be" in refusal(toy_data, train=TrainTasks(2, 9, 0))


def test_the_classes_of_the_training_split_are_counted(toy_data):
    assert toy_data(source=Toy(classes=17)).classes["train"] == 17


def test_labels_say_which_class_of_the_split_an_image_is_of(toy_data):
    data = toy_data()
    data.setup("fit")
    for batch in (data.meta_batches("train", 4)[0][0], data.meta_batches("val", 4)[0][0]):
        for ids, labels in ((batch.rows.support, batch.support_y), (batch.rows.query, batch.query_y)):
            assert torch.equal(batch.rows.class_id.gather(1, labels), ids // 12), "each class has 12 images"
