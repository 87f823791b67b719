"""Tests of splits: disjoint, covering, pure; sources for each part; classes that were trained on."""

from collections import Counter

import numpy as np
import pytest

from fewshot.data.images.omniglot import Omniglot
from fewshot.data.parts import class_tasks
from fewshot.data.source import SPLITS, ImageClass, table_of
from fewshot.data.splits import Fractions, KFold, LeaveOneGroupOut, Published
from fewshot.errors import UserError
from fewshot.tasks.table import Column, Table
from tests.data.fakes import data_module, refusal
from tests.toy import EvalTasks, Toy

LETTERS = [
    ImageClass(f"{alphabet}/character{i:02d}/rot{90 * turn:03d}", alphabet, 3)
    for alphabet in ("Greek", "Korean", "Latin", "Tagalog")
    for i in range(5)
    for turn in range(4)
]
ARTISTS = [f"a{i % 3}" for i in range(3 * len(LETTERS))]
UPRIGHT = [letter for letter in LETTERS if letter.name.startswith("Tagalog") and letter.name.endswith("rot000")]
TURNED = [letter for letter in LETTERS if not letter.name.startswith("Tagalog")]
TABLE = Table.joined(
    [
        table_of(Omniglot("nowhere"), classes, {"artist": ARTISTS[: 3 * len(classes)]})
        for classes in (TURNED, UPRIGHT)  # the published parts: only one of them has turned characters
    ]
)


def parts_of(split, table=TABLE):
    return {part: split.rows(part, table) for part in SPLITS}


def names(column, rows):
    return {TABLE.columns[column].names[value] for value in TABLE.columns[column].values[rows]}


@pytest.mark.parametrize(
    "split",
    [
        Fractions(),
        Fractions(by="alphabet", train=0.5, val=0.25, test=0.25),
        KFold(folds=5, fold=2),
        KFold(folds=4, fold=3, by="alphabet"),
        LeaveOneGroupOut(by="alphabet", which="Latin"),
        KFold(folds=3, by="artist"),
        KFold(folds=5, fold=4, thirds=True),
    ],
)
def test_parts_are_disjoint_and_pure(split):
    rows = parts_of(split)
    column = "original" if split.by == "class" else split.by
    values = [names(column, rows[part]) for part in SPLITS]
    assert all(values)
    assert sum(map(len, values)) == len(set.union(*values)) == len(TABLE.columns[column].names)
    again = parts_of(type(split)(**{name: value for name, value in split.description.items() if name != "rule"}))
    assert all(np.array_equal(rows[part], again[part]) for part in SPLITS)
    for part in ("val", "test"):  # turned characters are for training
        assert all(name.endswith("rot000") for name in names("class", rows[part]))
    assert any(name.endswith("rot090") for name in names("class", rows["train"]))


@pytest.mark.parametrize("part", ["val", "test"])
def test_folds_cover_every_class_once(part):
    tested = Counter(name for fold in range(5) for name in names("original", KFold(folds=5, fold=fold).rows(part, TABLE)))
    assert set(tested.values()) == {1}
    assert len(tested) == 20


@pytest.mark.parametrize(("classes", "sizes"), [(150, (50, 50, 50)), (77, (25, 25, 27))])
def test_thirds_test_every_class_at_least_once(classes, sizes):
    """CLINC150's and BANKING77's."""
    column = Column(tuple(f"intent{i:03d}" for i in range(classes)), np.arange(classes))
    folds = [KFold(folds=5, fold=fold, thirds=True).values(column) for fold in range(5)]
    assert {tuple(len(fold[part]) for part in SPLITS) for fold in folds} == {sizes}
    assert {len(set().union(*fold.values())) for fold in folds} == {classes}
    for part in ("val", "test"):
        assert set(Counter(value for fold in folds for value in fold[part])) == set(range(classes))


def test_the_group_that_is_left_out_is_the_one_tested():
    rows = parts_of(LeaveOneGroupOut(by="alphabet", which="Korean"))
    assert names("alphabet", rows["test"]) == {"Korean"}
    assert len(names("alphabet", rows["val"])) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KFold(folds=5, fold=5), "choose a fold from 0 to 4"),
        (lambda: KFold(folds=2), "data.split.folds=2 must be a whole number of at least 3"),
        (lambda: KFold(folds=30).rows("train", TABLE), "data.split.folds=30 but class has 20 values"),
        (lambda: LeaveOneGroupOut("alphabet", "Latim").rows("test", TABLE), "did you mean 'Latin'"),
        (
            lambda: KFold(by="alphabets").rows("train", TABLE),
            "data.split.by=alphabets is no column of these data; did you mean",
        ),
        (lambda: Fractions(val=0), "data.split.val=0 must be"),
        (
            lambda: Fractions(train=0.1, val=0.45, test=0.45, by="alphabet").rows("val", TABLE),
            "data.split.train=0.1 leaves none of 4 values of alphabet to train on",
        ),
        (lambda: Published().needed("val", ("all",), "pets"), "data/split=published but pets is published without a val split"),
    ],
)
def test_splits_that_cannot_be_are_refused(make, message):
    assert message in refusal(make)


def folded(tmp_path, source=None, **changes):
    sizes = {"eval": EvalTasks(2, 1, 4), "ways": 2, "queries": 4}
    return data_module(source or Toy(), tmp_path / "cache", **(sizes | changes))


def test_folds_share_no_class_and_no_image_as_sampled(tmp_path):
    """Rows of several files: a fold takes classes of all three published parts."""
    module = folded(tmp_path, split=KFold(folds=3, fold=1), val_tasks=200, test_tasks=200)
    module.check(SPLITS)
    module.prepare(SPLITS)
    module.setup("fit")
    module.setup("test")
    everything = {
        image.tobytes(): split + str(i) for split in SPLITS for i, of in enumerate(Toy().images(split)) for image in of
    }
    seen = {}
    for part in SPLITS:
        batch = [tasks for i in range(50) for tasks in module.meta_batches(part, 200).meta_batch(i)]
        images = {image.tobytes() for tasks in batch for image in tasks.support_x.flatten(0, 1).numpy()[:, 0]}
        seen[part] = {everything[image] for image in images}
        assert len(seen[part]) == 10 == len(module.prepared[part].table.classes)
        table = module.prepared[part].table
        for tasks in batch[:5]:
            for row, image in zip(tasks.rows.support.flatten(), tasks.support_x.flatten(0, 1), strict=True):
                name = table.classes[table.columns["class"].values[int(row)]]
                assert everything[image[0].numpy().tobytes()] == name[:-3] + str(int(name[-3:]))
    assert len(set.union(*seen.values())) == 30


def test_small_classes_are_left_out_by_name_where_asked(tmp_path, caplog):
    class Uneven(Toy):
        def classes(self, split):
            return [ImageClass(c.name, c.group, 3 if c.name == "train004" else c.size) for c in super().classes(split)]

        def images(self, split):
            for c, images in zip(self.classes(split), super().images(split), strict=True):
                yield images[: c.size]

    message = refusal(folded(tmp_path, Uneven()).check, ["train"])
    assert "train004 of the train split has 3" in message
    assert "data.skip_small_classes=true" in message
    module = folded(tmp_path, Uneven(), skip_small_classes=True)
    with caplog.at_level("INFO"):
        module.check(["train"])
    assert "Left out of the train split, 1 of 10 (class), with too few or too many rows for a task: train004 (3)" in caplog.text
    module.prepare(["train"])
    assert "train004" not in module.prepared["train"].table.classes
    assert len(module.prepared["train"].table) == 9 * 12


def test_parts_have_sources_of_their_own(tmp_path):
    other = Toy(classes=7)
    module = folded(tmp_path, test=class_tasks(other, 2, 1, 4))
    assert {part: module.parts[part].name for part in SPLITS} == {"train": "toy", "val": "toy", "test": "toy-7x12"}


def test_classes_that_were_trained_on_are_refused_by_number_and_name(tmp_path):
    trained = folded(tmp_path)
    trained.check(SPLITS)
    other = folded(tmp_path, split=KFold(folds=3))
    other.trained_on = trained.state_dict()
    message = refusal(other.check, ["test"])
    assert "the checkpoint was trained on" in message
    assert "of the 10 test classes (train0" in message
    assert "allow_seen_classes=true" in message
    allowed = folded(tmp_path, split=KFold(folds=3), allow_seen_classes=True)
    allowed.trained_on = trained.state_dict()
    allowed.check(["test"])
    assert 0 < allowed.seen_classes["test"] < 10
    same = folded(tmp_path)
    same.trained_on = trained.state_dict()
    same.check(["test"])
    assert same.seen_classes == {"test": 0}


def test_shared_classes_of_two_sources_are_refused_in_training(tmp_path):
    class Copy(Toy):
        def __init__(self):
            super().__init__()
            self.name = "copy"

        def classes(self, split):
            return super().classes("train")

    module = folded(tmp_path, test=class_tasks(Copy(), 2, 1, 4))
    with pytest.raises(UserError, match="the train and test splits share 10 of their classes"):
        module.check(SPLITS)


def test_another_source_is_compared_by_classes_whatever_unit_the_split_keeps_apart(tmp_path):
    """Patients are kept apart within one source, where classes may be the same; those of another source may not."""

    class Whole(Toy):
        parts = ("all",)

        def __init__(self, name, of):
            super().__init__(patients=3)
            self.name, self._of = name, of

        def classes(self, split):
            return super().classes(self._of)

        def images(self, split):
            return super().images(self._of)

    by_patient = LeaveOneGroupOut("patient", "patient0")
    own, other, copy = (Whole(*given) for given in (("own", "train"), ("other", "test"), ("copy", "train")))
    for tested in (own, other):
        module = folded(tmp_path, own, split=by_patient, eval=EvalTasks(2, 1, 1), queries=2, test=class_tasks(tested, 2, 1, 1))
        module.check(SPLITS)
        module.prepare(SPLITS)
        checkpoint = module.state_dict()
    with pytest.raises(UserError, match="the train and test splits share 10 of their classes"):
        folded(tmp_path, own, split=by_patient, eval=EvalTasks(2, 1, 1), queries=2, test=class_tasks(copy, 2, 1, 1)).check(
            SPLITS
        )
    again = folded(tmp_path, own, split=by_patient, eval=EvalTasks(2, 1, 1), queries=2, test=class_tasks(copy, 2, 1, 1))
    again.trained_on = checkpoint
    assert "was trained on 10 of the 10 test classes" in refusal(again.check, ["test"])
