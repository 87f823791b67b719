"""Names of jobs and sweeps: the same for the same work, on every machine; another for other work."""

import hashlib
import os
import subprocess
import sys
from functools import cache

import pytest
from omegaconf import OmegaConf

from fewshot.sweep.identity import job_id, name_suffix, sweep_name


@pytest.fixture(scope="module")
def named(compose_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("identity")
    return cache(lambda *overrides: job_id(compose_config(folder, *overrides)))


def test_a_name_is_a_hash_of_sorted_values():
    cfg = OmegaConf.create({"seed": 0, "model": {"lr": 0.1, "ways": "${seed}"}, "paths": {"data_dir": "/here"}, "resume": True})
    text = b'{"model": {"lr": 0.1, "ways": 0}, "seed": 0}'
    assert job_id(cfg) == hashlib.sha256(text).hexdigest()[:12]
    text = b'{"model": {"lr": 0.1, "ways": "<seed>"}, "seed": "<seed>"}'
    assert job_id(cfg, without=("seed",)) == hashlib.sha256(text).hexdigest()[:12]


@pytest.mark.parametrize(
    "override",
    [
        "paths.output_dir=/elsewhere",
        "paths.data_dir=/elsewhere",
        "paths.cache_dir=/elsewhere",
        "data.cache_dir=/elsewhere",
        "data.num_workers=2",
        "resume=true",
        "logger=csv",
        "callbacks.progress.refresh_rate=0",
        "model.ways=3",  # as data.ways, which it refers to
        "model.inner.lr=0.4",  # as it is
        "launcher=local",
    ],
)
def test_what_does_not_change_a_run_does_not_change_its_name(named, override):
    assert named(override) == named()


@pytest.mark.parametrize(
    "override", ["seed=1", "seed=null", "model.inner.lr=0.1", "trainer.max_steps=7", "test=false", "data.ways=2", "threads=2"]
)
def test_what_changes_a_run_changes_its_name(named, override):
    assert named(override) != named()


def test_runs_that_differ_by_their_seed_alone_share_a_group(compose_config, tmp_path):
    def group(*overrides):
        return job_id(compose_config(tmp_path, *overrides), without=("seed",))

    assert group("seed=1") == group("seed=2")
    assert group("seed=1", "model.inner.lr=0.1") != group("seed=1")


def test_a_sweep_is_named_by_its_choices_by_numbers_with_their_keys_and_by_what_varies():
    name = sweep_name(["experiment=omniglot_5w1s", "seed=0", "model.inner.lr=0.1,0.4", "trainer.max_steps=7"])
    assert name.rpartition("-")[0] == "omniglot_5w1s-seed_0-lr"


def test_other_processes_give_the_same_name():
    code = (
        "from fewshot.sweep.identity import *; from omegaconf import OmegaConf;"
        "print(job_id(OmegaConf.create({'b': {'y': 1, 'x': 2}, 'a': 3})), sweep_name(['seed=1,2', 'data=toy']))"
    )
    names = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert names == {f"{job_id(OmegaConf.create({'a': 3, 'b': {'x': 2, 'y': 1}}))} {sweep_name(['data=toy', 'seed=1,2'])}\n"}


def test_a_sweep_is_named_by_what_it_fixes_and_what_it_varies():
    name = sweep_name(["experiment=omniglot_5w1s", "seed=0,1,2", "model.inner.lr=0.1,0.4"])
    assert name.startswith("omniglot_5w1s-lr-seed-")
    same = (
        ["seed=0,1,2", "model.inner.lr=0.1,0.4", "experiment=omniglot_5w1s"],
        ["experiment=omniglot_5w1s", "seed=0,1,2,3", "model.inner.lr=0.1,0.2"],
        ["experiment=omniglot_5w1s", "seed=range(5)", "model.inner.lr=0.1,0.4", "launcher=local"],
        ["experiment=omniglot_5w1s", "seed=0,1,2", "model.inner.lr=0.1,0.4", "paths.data_dir=/there", "data.num_workers=2"],
    )
    other = (
        ["experiment=omniglot_20w1s", "seed=0,1,2", "model.inner.lr=0.1,0.4"],
        ["experiment=omniglot_5w1s", "seed=0,1,2", "model.inner.lr=0.1"],
        ["experiment=omniglot_5w1s", "seed=0,1,2", "model.inner.lr=0.1,0.4", "trainer.max_steps=10"],
    )
    assert {sweep_name(overrides) for overrides in same} == {name}
    assert name not in {sweep_name(overrides) for overrides in other}
    assert sweep_name([]).startswith("sweep-")


@pytest.mark.parametrize(
    ("name", "suffix"), [(None, ""), ("", ""), ("../x", "_x"), ("second try (lr=0.1)", "_second_try_lr_0_1"), ("ü", "_ü")]
)
def test_the_name_of_a_run_ends_its_folders(name, suffix):
    assert name_suffix(name) == suffix


def test_names_and_tags_do_not_make_another_job():
    ids = {job_id(OmegaConf.create({"a": 1, "name": name, "tags": [name]})) for name in ("one", "two")}
    assert len(ids) == 1
