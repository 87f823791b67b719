"""The protocol card: what it says of results of any age, how often rows are reused, and in what runs differ."""

import pytest

from fewshot.evaluation.card import FIELDS, card, card_differences, card_lines, reuse

PROTOCOL = {
    "data": "omniglot", "split": "test", "splits_sha256": {"train": "a" * 64, "test": "0123456789abcdef"},
    "split_rule": {"rule": "kfold", "folds": 5, "fold": 2, "by": "alphabet", "seed": 0},
    "seen_classes": {"test": 0}, "sources": {"train": "glyphs", "val": "omniglot", "test": "omniglot"},
    "splits_rows": {"train": 20_000, "test": 8460}, "ways": 5, "shots": 1, "queries": 15, "within_group": False,
    "apart": None, "replacement": True, "eval_seed": 0, "val_tasks": 200, "test_tasks": 600, "model": "MAML",
    "backbone": "Conv4", "batch_norm": "transductive", "eval_steps": 3, "seed": 7, "control": None,
    "train": {"ways": 5, "shots": 1, "queries": 5, "meta_batch_size": 16, "steps": 1000, "checkpoint": "best"},
    "objective": {"name": "classification", "monitor": "acc", "mode": "max"},
}  # fmt: skip
OLD = {"data": "omniglot", "ways": 5, "shots": 1, "queries": 15, "test_tasks": 600, "seed": 0, "train": {"steps": 5}}
"""All that the first results had of it."""


def results(**protocol):
    return {"protocol": PROTOCOL | protocol, "test": {"tasks": 600, "ci_method": "Student's t over tasks, 95 %"}}


def test_three_lines_say_it_all():
    assert card_lines(results()) == [
        "data   omniglot (train glyphs) · split kfold fold 2 of 5 (by alphabet, seed 0), sha256 0123456789ab · "
        "no alphabet in two parts",
        "tasks  5-way 1-shot, 15 queries a class · 600 tasks of the test part, with replacement, seed 0, rows reused "
        "5.7 times · Student's t over tasks, 95 %",
        "model  MAML, Conv4 · batch norm transductive · 3 adaptation steps · training: 1,000 outer steps of 16 tasks, "
        "5-way 1-shot, 5 queries · seed 7 · chosen on validation: checkpoint, by accuracy",
    ]


def test_every_field_has_words_also_of_old_results():
    for found in (card(results()), card({"protocol": OLD, "test": {"tasks": 600}})):
        assert tuple(found) == FIELDS
        assert all(found.values())
    old = card({"protocol": OLD, "test": None})
    assert (old["split"], old["split hash"], old["reuse"]) == ("unknown",) * 3
    assert old["drawn"] == "with replacement, seed unknown"
    assert len(card_lines({"protocol": OLD, "test": None})) == 3


@pytest.mark.parametrize(
    ("protocol", "field", "words"),
    [
        ({"replacement": False}, "drawn", "without replacement, seed 0"),
        ({"replacement": None, "ways": 1}, "drawn", "computed"),
        ({"within_group": True}, "drawn", "with replacement within groups, seed 0"),
        ({"apart": "patient"}, "kept apart", "no alphabet in two parts, no patient on both sides of a task"),
        ({"seen_classes": {"test": 3}}, "kept apart", "3 of its classes were trained on"),
        ({"split_rule": {"rule": "published"}}, "split", "published"),
        ({"ways": [5, 20]}, "ways", "5 to 20"),
        ({"ensemble": 3}, "ensemble", "3 checkpoints"),
        ({"control": "shuffled_labels"}, "control", "shuffled_labels"),
        ({"train": {"steps": 0, "checkpoint": None}}, "training", "no outer step"),
        ({"train": {"steps": 0, "checkpoint": None}}, "chosen on validation", "nothing"),
        ({"train": {"steps": 0, "checkpoint": "best"}}, "chosen on validation", "nothing"),
        ({"train": {"steps": 9, "checkpoint": "last"}}, "chosen on validation", "nothing"),
    ],
)
def test_what_a_field_says(protocol, field, words):
    assert card(results(**protocol))[field] == words
    assert words in " ".join(card_lines(results(**protocol))) or field == "ways"


def test_how_often_a_row_is_used():
    """The figures of two published test parts: Vinyals' 423 characters of 20 drawings, mini-ImageNet's 20 classes of 600."""
    assert reuse(PROTOCOL) == pytest.approx(600 * 5 * 16 / (423 * 20))
    assert reuse(PROTOCOL | {"splits_rows": {"test": 12_000}}) == pytest.approx(4.0)
    assert reuse(PROTOCOL | {"ways": [5, 15]}) == pytest.approx(2 * 600 * 5 * 16 / 8460)
    assert reuse(PROTOCOL | {"shots": "meta_dataset"}) is None
    assert reuse(PROTOCOL | {"splits_rows": {"test": 0}}) is None
    assert reuse(OLD) is None


def test_only_the_fields_that_differ():
    found = card_differences([results(), results(seed=8, model="ANIL"), results()])
    assert found == {"model": ["MAML", "ANIL", "MAML"], "seed": ["7", "8", "7"]}
    assert card_differences([results()]) == {}


def test_what_tasks_are_within_is_named():
    assert card(results(within_group=True))["within"] == "groups"
    found = card(results(within_group=True, within=["dataset", "alphabet"]))
    assert found["within"] == "dataset, alphabet"
    assert found["drawn"] == "with replacement within dataset, alphabet, seed 0"
