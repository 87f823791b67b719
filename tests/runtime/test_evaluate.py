"""Evaluating a finished run again, and on other tasks, as a user types it."""

import csv
import json
import re
import shutil

import pytest
import torch
import yaml

from fewshot.errors import UserError
from fewshot.runtime.eval_config import training_tasks
from tests.entry import CONFIG_DIR, QUICK, main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run's folder; its prepared data lie beside it."""
    folder = tmp_path_factory.mktemp("trained")
    done = main("train.py", *QUICK, f"hydra.run.dir={folder / 'run'}", f"paths.cache_dir={folder / 'cache'}")
    assert done.code == 0, done.err
    return folder / "run"


@pytest.fixture
def evaluate(run, tmp_path):
    def evaluate(*overrides):
        done = main("eval.py", CONFIG_DIR, f"run={run}", f"hydra.run.dir={tmp_path / 'eval'}", *overrides)
        path = tmp_path / "eval/results.json"
        return done, json.loads(path.read_text()) if path.exists() else None

    return evaluate


def metrics(path):
    return json.loads((path / "results.json").read_text())["metrics"]


def test_its_own_test_comes_out_the_same(evaluate, run, tmp_path):
    done, results = evaluate()
    assert done.code == 0, done.err
    assert results["metrics"]["test/acc"] == metrics(run)["test/acc"]
    assert (tmp_path / "eval/test_tasks.csv").read_text() == (run / "test_tasks.csv").read_text()
    assert results["protocol"]["train"]["steps"] == torch.load(run / "checkpoints/best.ckpt", weights_only=True)["global_step"]


def test_its_validation_comes_out_the_same(evaluate, run):
    done, results = evaluate("split=val")
    assert done.code == 0, done.err
    assert results["metrics"]["val/acc"] == metrics(run)["val/acc"]
    assert results["protocol"]["split"] == "val"


def test_other_ways_shots_queries_steps_and_seed(evaluate):
    done, results = evaluate(
        "data.ways=2",
        "data.shots=3",
        "data.eval.queries=5",
        "model.inner.eval_steps=6",
        "data.eval.seed=7",
        "data.test_tasks=9",
    )
    assert done.code == 0, done.err
    protocol = results["protocol"]
    assert [protocol[key] for key in ("ways", "shots", "queries", "eval_steps", "eval_seed")] == [2, 3, 5, 6, 7]
    assert protocol["train"]["ways"] == 3
    assert results["test"]["tasks"] == 9
    assert len(results["test"]["acc_per_step"]) == 7


def test_outputs_that_are_not_finite_are_no_right_answers(evaluate, tmp_path):
    """The argmax of NaN is class 0: 33 % of three classes."""
    done, results = evaluate("model.inner.lr=1e30", "model.inner.eval_steps=3")
    assert done.code == 0, done.err
    rows = list(csv.DictReader((tmp_path / "eval/test_tasks.csv").read_text().splitlines()))
    lost = [float(row["acc_3"]) for row in rows if row["loss_3"] == "nan"]
    assert len(lost) > 3
    assert set(lost) == {0}
    assert results["test"]["nonfinite_tasks"] == results["metrics"]["test/nonfinite_tasks"] >= len(lost)
    assert f"{results['test']['nonfinite_tasks']} of 6 test tasks ended in outputs that are not finite" in done.out


def test_the_last_checkpoint_can_be_chosen(evaluate):
    done, results = evaluate("checkpoint=last")
    assert done.code == 0, done.err
    assert results["protocol"]["train"]["checkpoint"] == "last"
    assert results["protocol"]["train"]["steps"] == 6


def test_another_data_set(evaluate):
    done, results = evaluate("data=toy", "data.source.classes=12", "data.eval.within=group")
    assert done.code == 0, done.err
    assert results["protocol"]["splits_classes"] == {"test": 12}
    assert results["protocol"]["within_group"] is True


def test_evaluation_changes_nothing_in_the_run(evaluate, run):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    evaluate()
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.ways=5"], "data.eval.ways=5 but the network tells 3 classes apart"),
        (["split=train"], "split=train is unknown; choose one of: test, val"),
        (["split=[val]"], "split=[val] must be text"),
        (["checkpoint=first"], "first.ckpt is missing"),
        (["model.inner.eval_step=3"], "model.inner.eval_step is no key of this config; did you mean 'model.inner.eval_steps'?"),
        (["data=omniglott"], "data=omniglott is unknown; did you mean 'omniglot'?"),
        (["data.eval.queries=50"], "data.test.shots=1 and data.test.queries=50 need 51 rows a class"),
    ],
)
def test_mistakes(evaluate, overrides, message):
    done, results = evaluate(*overrides)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert results is None


def test_a_folder_that_is_no_run(tmp_path):
    done = main("eval.py", f"run={tmp_path}")
    assert done.code == 2
    assert done.err == f"error: run={tmp_path} is no run's folder: it has no composed.yaml; choose one below logs/train/runs\n"


def test_a_config_without_training_tasks(run, tmp_path):
    """As a broken line leaves it."""
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    text = (broken / "config.yaml").read_text()
    (broken / "config.yaml").write_text(text.replace("  train:\n", "  trained:\n", 1))
    with pytest.raises(UserError, match=r"config\.yaml has no data\.train\.\{ways,shots,queries\}; choose another run"):
        training_tasks(broken)


def test_help_has_its_own_keys_and_with_a_run_those_of_the_run(run):
    own, all_keys = main("eval.py", "--help").out, main("eval.py", CONFIG_DIR, f"run={run}", "--help").out
    for text in (own, all_keys):
        assert re.search(r"^split=test +part of the data whose tasks are evaluated: test or val$", text, re.MULTILINE)
    assert "model.inner.lr=0.4" in all_keys
    assert "model.inner.lr=0.4" not in own


def test_no_run_named():
    done = main("eval.py")
    assert done.code == 2
    assert done.err.startswith("error: run=??? must name the folder of a finished run")


@pytest.mark.parametrize("content", [b"", b"junk", None], ids=["empty", "junk", "truncated"])
def test_a_broken_checkpoint(run, tmp_path, content):
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    path = broken / "checkpoints/best.ckpt"
    path.write_bytes(path.read_bytes()[:2000] if content is None else content)
    done = main("eval.py", f"run={broken}", f"hydra.run.dir={tmp_path / 'eval'}")
    assert done.code == 2
    assert "best.ckpt is no whole checkpoint of plain data" in done.err
    assert done.err.count("\n") == 1


def test_a_checkpoint_with_code_in_it_is_refused(run, tmp_path):
    hostile = tmp_path / "hostile"
    shutil.copytree(run, hostile)
    torch.save({"fewshot": Trap(str(tmp_path / "sprung"))}, hostile / "checkpoints/best.ckpt")
    done = main("eval.py", f"run={hostile}", f"hydra.run.dir={tmp_path / 'eval'}")
    assert done.code == 2
    assert not (tmp_path / "sprung").exists()


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_checkpoint_of_another_network(run, tmp_path):
    done = main("eval.py", f"run={run}", f"hydra.run.dir={tmp_path / 'eval'}", "model.backbone.hidden=[5]")
    assert done.code == 2
    assert "the checkpoint's network has features.layers.1.bias of shape [8], the config's [5]" in done.err


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"- a\n- list\n",
        b"just text",
        b"data: {\n",
        b"\xff\xfe\x00",
        b"data: &a [*a]\nmodel: 1\ntrainer: 1\nseed: 1\n",
        b"data: !!python/object/apply:os.system ['touch sprung']\nmodel: {}\ntrainer: {}\nseed: 0\n",
        b"data: ${oc.env:NOBODY_SET_THIS}\nmodel: {}\ntrainer: {}\nseed: 0\n",
        b"model: {}\n",
    ],
    ids=["empty", "list", "text", "unclosed", "bytes", "circular", "code", "reference", "incomplete"],
)
@pytest.mark.parametrize("name", ["config.yaml", "composed.yaml"])
def test_yaml_surprises(run, tmp_path, monkeypatch, name, content):
    strange = tmp_path / "strange"
    shutil.copytree(run, strange)
    (strange / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    done = main("eval.py", CONFIG_DIR, f"run={strange}", f"hydra.run.dir={tmp_path / 'eval'}")
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert not (tmp_path / "sprung").exists()


def test_the_run_and_other_runs_are_not_written_into(run):
    before = {path: path.read_bytes() for path in run.rglob("*.json")}
    done = main("eval.py", CONFIG_DIR, f"run={run}", f"hydra.run.dir={run}")
    assert done.code == 2
    assert "holds a training run; choose another folder for the evaluation" in done.err
    assert {path: path.read_bytes() for path in run.rglob("*.json")} == before


def test_a_run_of_several_processes_is_evaluated_by_one(run, tmp_path):
    """As the processes of a run leave it: devices 2, and its folder frozen in the config."""
    several = tmp_path / "several"
    shutil.copytree(run, several)
    text = (several / "composed.yaml").read_text()
    text = text.replace("devices: 1", "devices: 2").replace("output_dir: ${hydra:runtime.output_dir}", f"output_dir: {several}")
    (several / "composed.yaml").write_text(text)
    assert "devices: 2" in text
    assert f"output_dir: {several}" in text
    done = main("eval.py", CONFIG_DIR, f"run={several}", f"hydra.run.dir={tmp_path / 'eval'}")
    assert done.code == 0, done.err
    assert (tmp_path / "eval/results.json").is_file()


def test_runs_and_evaluations_have_folders_of_their_own(run):
    """Where the README says that they are: logs/train/runs and logs/eval/runs."""

    def folder(script, *arguments):
        shown = yaml.safe_load(main(script, *arguments, "--cfg", "hydra").out)["hydra"]
        return shown["run"]["dir"].split("/runs/")[0].replace("${hydra:job.name}", shown["job"]["name"])

    assert folder("train.py") == "${paths.root_dir}/logs/train"
    assert folder("eval.py", f"run={run}") == "${paths.root_dir}/logs/eval"
