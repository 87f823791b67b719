"""Which folds a cross-validation has: those of the dataset where it has some, of classes otherwise, or one group at a time."""

import pytest
from hydra import compose, initialize_config_dir

from fewshot.errors import UserError
from fewshot.sweep.folds import on_every_fold
from tests.conftest import ROOT

PRESET = "sweep=cross_validation"


@pytest.fixture
def folds():
    """What each job's overrides end with, of some overrides; and of a second seed too, after the first in each fold."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):

        def make(*overrides, seeds=("seed=0",)):
            jobs = [[PRESET, *overrides, seed] for seed in seeds]
            path = f"hydra.searchpath=[file://{ROOT}/tests/configs]"
            found = on_every_fold(jobs, lambda given: compose("train", [path, *given], return_hydra_config=True))
            return [job[len(overrides) + 1 :] for job in found]

        yield make


def test_classes_that_have_a_published_split_are_dealt_into_folds(folds):
    assert folds("experiment=omniglot_5w1s") == [["seed=0", f"data.split.fold={fold}"] for fold in range(5)]
    assert len(folds("experiment=omniglot_5w1s", "data.split.folds=3", "data.split.by=alphabet")) == 3


def test_seeds_follow_each_other_within_a_fold(folds):
    jobs = folds("experiment=tiny", "data.split.folds=3", seeds=("seed=0", "seed=1"))
    assert jobs[:3] == [["seed=0", "data.split.fold=0"], ["seed=1", "data.split.fold=0"], ["seed=0", "data.split.fold=1"]]
    assert len(jobs) == 6


@pytest.mark.parametrize(
    ("experiment", "split", "count"),
    [
        ("clinc150_5w1s", "kfold_thirds", 5),
        ("chula_rbc12_3w5s", "kfold_quarters", 4),
        ("movielens_10shot", "kfold_users", 5),
        ("movielens_cold_start", "cold_start", 5),
    ],
)
def test_data_with_folds_of_their_own_keep_them(folds, experiment, split, count):
    assert folds(f"experiment={experiment}") == [
        ["seed=0", f"data/split={split}", f"data.split.fold={f}"] for f in range(count)
    ]


def test_what_the_command_names_is_taken(folds):
    assert folds("experiment=tiny", "data.split.fold=1") == [["seed=0"]]
    assert folds("experiment=clinc150_5w1s", "data/split=kfold") == [["seed=0", f"data.split.fold={f}"] for f in range(5)]
    left_out = ("data/split=leave_one_group_out", "data.split.by=group", "data.split.which=group1")
    assert folds("experiment=tiny", *left_out) == [["seed=0"]]


def test_every_group_is_left_out_once(folds):
    """Their names are quoted where a command line would read them otherwise."""
    left_out = ("experiment=glyphs_5w1s", "data/split=leave_one_group_out", "data.split.by=alphabet")
    assert folds(*left_out)[:2] == [["seed=0", f"data.split.which={name}"] for name in ("armenian", "arrows")]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("data/split=fractions",), "data/split=fractions has no folds; choose kfold or leave_one_group_out"),
        (("data/split=leave_one_group_out",), "needs the column whose values are left out, as in data.split.by=alphabet"),
        (("data/split=leave_one_group_out", "data.split.by=x"), "data.split.by=x is no column of these data"),
        (("experiment=sinusoid_10shot",), "these tasks are computed: there is nothing to divide"),
    ],
)
def test_what_has_no_folds_is_refused(folds, overrides, message):
    with pytest.raises(UserError, match=message):
        folds(*overrides)
