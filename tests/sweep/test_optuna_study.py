"""Optuna studies: the space, what may be an objective, and a study that is killed."""

import json
import math
import signal
import subprocess
import sys
import time

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from fewshot.errors import UserError
from fewshot.evaluation.results import write_results
from fewshot.sweep.job import Job, State, jobs_in
from fewshot.sweep.journal import STUDY, journal
from fewshot.sweep.optuna_study import StudyQueue, check_objectives, objectives_of, open_study
from fewshot.sweep.search_space import search_space
from tests.entry import ROOT, TINY, main
from tests.forked import fork, forked_jobs, wait_for  # noqa: F401
from tests.sweep.test_local import codes, kill, processes_below


def space(*overrides):
    return search_space(OverridesParser.create().parse_overrides(list(overrides)))


def test_the_space_is_what_the_command_line_says():
    fixed, varied = space(
        "experiment=tiny", "a=interval(0.1,1)", "b=int(interval(1,5))", "c=tag(log,interval(0.001,1))", "d=range(2,9,3)",
        "e=range(0,1,0.25)", "f=x,y", "g=choice([1,2],[3])", "trainer.max_steps=5",
    )  # fmt: skip
    assert fixed == ["experiment=tiny", "trainer.max_steps=5"]
    assert varied == {
        "a": FloatDistribution(0.1, 1.0),
        "b": IntDistribution(1, 5),
        "c": FloatDistribution(0.001, 1.0, log=True),
        "d": IntDistribution(2, 8, step=3),
        "e": FloatDistribution(0.0, 0.75, step=0.25),
        "f": CategoricalDistribution(["x", "y"]),
        "g": CategoricalDistribution(["[1,2]", "[3]"]),
    }


def test_the_command_line_has_the_last_word():
    assert space("a=interval(0,1)", "a=0.5", "b=1,2") == (["a=0.5"], {"b": CategoricalDistribution(["1", "2"])})
    assert space("a=0.5", "a=1,2") == ([], {"a": CategoricalDistribution(["1", "2"])})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["a=1"], "varies nothing; give a key values"),
        (["a=interval(2,1)"], r"a=interval\(2,1\) is no interval"),
        (["a=tag(log,interval(0,1))"], "0 < LOW for a log scale"),
    ],
)
def test_spaces_that_cannot_be(overrides, message):
    with pytest.raises(UserError, match=message):
        space(*overrides)


@pytest.mark.parametrize(
    ("objectives", "directions", "message"),
    [
        ([], [], r"directions has 0 for 0 of hydra\.sweeper\.objectives"),
        (["val/acc"], ["maximize", "minimize"], r"directions has 2 for 1 of hydra\.sweeper\.objectives"),
        (["val/acc"], ["maximise"], r"directions=maximise is unknown; did you mean 'maximize'"),
        (["test/acc"], ["maximize"], r"objectives=test/acc: nothing is chosen on test classes"),
        (["val/accc"], ["maximize"], r"objectives=val/accc is no figure of results\.json; did you mean 'val/acc'"),
    ],
)
def test_objectives_that_cannot_be(objectives, directions, message):
    with pytest.raises(UserError, match=message):
        check_objectives(objectives, directions)


def test_a_study_of_other_objectives_is_not_gone_on_with(tmp_path):
    open_study(tmp_path, {"val/loss": "maximize"}, {})
    study = open_study(tmp_path, {"val/acc": "maximize"}, {})  # nothing was measured yet
    study.tell(study.ask(), 0.5)
    open_study(tmp_path, {"val/acc": "maximize"}, {})
    for other in ({"val/loss": "maximize"}, {"val/acc": "minimize"}):
        with pytest.raises(UserError, match="holds a study of"):
            open_study(tmp_path, other, {})


def test_other_choices_are_refused_and_other_bounds_are_not(tmp_path):
    def open_over(*overrides):
        return open_study(tmp_path, {"val/acc": "maximize"}, space(*overrides)[1])

    study = open_over("a=choice(1,2)", "b=tag(log,interval(1.0,2.0))")
    study.ask(space("a=choice(1,2)", "b=tag(log,interval(1.0,2.0))")[1])
    open_over("a=choice(1,2)", "b=tag(log,interval(1.0,9.0))", "c=range(1,3)")
    message = rf"^a is drawn from choice\(1,2,3\), but the study in {tmp_path} draws it from choice\(1,2\); give the same, or "
    with pytest.raises(UserError, match=message):
        open_over("a=choice(1,2,3)")
    with pytest.raises(UserError, match=r"^b is drawn from interval\(1,3\), but .* from tag\(log,interval\(1\.0,2\.0\)\);"):
        open_over("b=int(interval(1,3))")


class FakeExpander:
    """Jobs that nobody has run."""

    def __init__(self, folder):
        self.folder = folder

    def job(self, overrides, number, pruner=None):
        job = Job(self.folder / str(number))
        job.freeze("{}", list(overrides), [], "", "")
        return job


@pytest.mark.parametrize("sampler", ["TPESampler", "RandomSampler", "QMCSampler"])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_seeded_study_draws_the_same_however_often_it_is_gone_on_with(tmp_path, sampler):
    _, varied = space("a=interval(0.0,1.0)")
    config = OmegaConf.create({"_target_": f"optuna.samplers.{sampler}", "seed": 3})

    def drawn(folder, *totals):
        folder.mkdir()
        for trials in totals:
            study = open_study(folder, {"val/acc": "maximize"}, varied)
            queue = StudyQueue(study, FakeExpander(folder), varied, [], trials, config)
            while queue.next() is not None:
                pass
        return [trial.params["a"] for trial in study.get_trials()]

    once = drawn(tmp_path / "once", 4)
    assert len(set(once)) == 4
    assert drawn(tmp_path / "thrice", 1, 2, 4) == once


def test_a_figure_that_no_trial_has_ends_the_study(tmp_path):
    job = FakeExpander(tmp_path).job([], 0)
    protocol = {"seed": 0, "train": {"steps": 1}}
    metrics, cost = {"val/acc": 0.5, "val/loss": math.nan, "test/acc": 0.5}, {"train_seconds": 2.0}
    write_results(job.folder / "results.json", metrics=metrics, test=None, protocol=protocol, cost=cost, provenance={})
    assert objectives_of(job, {"val/acc": "maximize", "cost/train_seconds": "minimize"}) == [0.5, 2.0]
    assert objectives_of(job, {"val/loss": "minimize"}) is None
    with pytest.raises(UserError, match=r"=val/acc_before is not in .*; choose one of: val/acc, val/loss, cost/train_seconds$"):
        objectives_of(job, {"val/acc_before": "maximize"})


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        ("maml", {"model.inner.lr", "model.optimizer.lr"}),
        ("protonet", {"model.optimizer.lr"}),
        ("choice(maml,protonet)", {"model", "model.optimizer.lr"}),
    ],
)
def test_the_preset_varies_what_a_model_has(tmp_path, monkeypatch, model, keys):
    seen = {}
    monkeypatch.setattr("fewshot.sweep.launch.run_queue", lambda queue, *_, **__: seen.update(queue.space))
    done = main("train.py", *TINY, "sweep=optuna", f"model={model}", f"hydra.sweep.dir={tmp_path}")
    assert (done.code, done.err) == (0, "")
    assert seen.keys() == keys


def test_without_optuna_one_line_names_the_extra(tmp_path):
    code = "import sys; sys.modules['optuna'] = None; sys.argv = ['train.py', *sys.argv[1:]];"
    code += f"import runpy; runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code, *TINY, "sweep=optuna", f"hydra.sweep.dir={tmp_path}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: sweep=optuna needs the extra 'optuna'; install it with: uv sync --extra optuna\n"


STUDY_RECIPE = (
    *TINY, "sweep=optuna", "launcher=local", "hydra.launcher.jobs=2", "callbacks.progress.refresh_rate=0", "test=false",
    "trainer.max_steps=12", "trainer.val_check_interval=3", "callbacks.last.every_n_steps=3",
)  # fmt: skip


def arguments(folder, *more):
    return [*STUDY_RECIPE, f"hydra.sweep.dir={folder / 'sweep'}", f"paths.cache_dir={folder / 'cache'}", *more]


def trials(folder):
    return optuna.load_study(study_name=STUDY, storage=journal(folder / "sweep")).trials


@pytest.mark.proof
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_study_of_twenty_trials_is_killed_goes_on_and_ends_with_twenty(tmp_path):
    """Prunes some, runs no trial twice to its end, and writes an experiment file that composes and trains."""
    process = fork("train.py", *arguments(tmp_path), output=tmp_path / "out")
    wait_for(lambda: len(list(tmp_path.glob("sweep/*/results.json"))) >= 6, timeout=900)
    time.sleep(3)
    below = kill(process, whole=True)
    assert below
    begun = len(trials(tmp_path))
    assert 6 <= begun < 20
    process = fork("train.py", *arguments(tmp_path), output=tmp_path / "out")
    assert process.wait(1200) == 0, (tmp_path / "out").read_text()

    states = [trial.state for trial in trials(tmp_path)]
    assert len(states) == 20
    assert set(states) == {TrialState.COMPLETE, TrialState.PRUNED}
    assert states.count(TrialState.PRUNED) >= 1
    jobs = jobs_in(tmp_path / "sweep")
    assert len(jobs) == 20
    assert all(codes(job).count(0) + codes(job).count(4) <= 1 for job in jobs)
    assert {job.state() for job in jobs} == {State.COMPLETED, State.PRUNED}
    for trial in trials(tmp_path):
        job = next(job for job in jobs if job.name == trial.user_attrs["job"])
        if trial.state == TrialState.COMPLETE:
            assert trial.value == job.results()["metrics"]["val/acc"]
        drawn = dict(override.split("=") for override in job.record()["overrides"])
        assert all(float(drawn[key]) == value for key, value in trial.params.items())

    best = max((trial for trial in trials(tmp_path) if trial.value is not None), key=lambda trial: trial.value)
    job = next(job for job in jobs if job.name == best.user_attrs["job"])
    alone = tmp_path / "alone"
    done = main("train.py", f"--config-dir={tmp_path / 'sweep'}", f"hydra.searchpath=[file://{ROOT}/tests/configs]",
                "experiment=best", "seed=0", f"hydra.run.dir={alone}", f"paths.cache_dir={tmp_path / 'cache'}")  # fmt: skip
    assert done.code == 0, done.err
    theirs, ours = (json.loads((folder / "results.json").read_text()) for folder in (job.folder, alone))
    assert ours["metrics"] == theirs["metrics"]
    assert (alone / "metrics.csv").read_text() == (job.folder / "metrics.csv").read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("forked_jobs", "no_pictures")
def test_two_objectives_give_a_front(tmp_path):
    more = ("hydra.sweeper.trials=3", "trainer.max_steps=3", "data.val_tasks=2",
            "hydra.sweeper.objectives=[val/acc,cost/train_seconds]",
            "hydra.sweeper.directions=[maximize,minimize]")  # fmt: skip
    process = fork("train.py", *arguments(tmp_path, *more), output=tmp_path / "out")
    assert process.wait(600) == 0, (tmp_path / "out").read_text()
    study = optuna.load_study(study_name=STUDY, storage=journal(tmp_path / "sweep"))
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 3
    for trial in study.trials:
        results = json.loads((tmp_path / "sweep" / trial.user_attrs["job"] / "results.json").read_text())
        assert trial.values == [results["metrics"]["val/acc"], results["cost"]["train_seconds"]]
    assert len(list((tmp_path / "sweep/experiment").glob("best*.yaml"))) == len(study.best_trials)


@pytest.mark.slow
@pytest.mark.usefixtures("forked_jobs", "no_pictures")
def test_asked_to_stop_a_study_goes_on_with_its_running_trials(tmp_path):
    long = ("hydra.sweeper.trials=2", "trainer.max_steps=2000", "trainer.val_check_interval=2000", "hydra.sweeper.pruner=null")
    process = fork("train.py", *arguments(tmp_path, *long), output=tmp_path / "out")
    wait_for(lambda: len(list(tmp_path.glob("sweep/*/checkpoints/last.ckpt"))) == 2)
    below = processes_below(process.pid)
    process.send(signal.SIGTERM)
    assert process.wait() == 143, (tmp_path / "out").read_text()
    assert len(below) >= 2
    assert [trial.state for trial in trials(tmp_path)] == [TrialState.RUNNING] * 2
    assert {job.state() for job in jobs_in(tmp_path / "sweep")} == {State.INTERRUPTED}
