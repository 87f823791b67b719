"""The README's commands do what it says, on a stand-in for their data; of those that train, one is run and all are built."""

import re
import shlex
import shutil
import subprocess
import sys
from math import prod
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from fewshot.matrix.__main__ import protocol
from fewshot.predict.demo_server import DemoServer
from fewshot.report.__main__ import report
from fewshot.runtime.distributed import require_shares
from fewshot.runtime.train import check
from fewshot.sweep.job import Job
from tests.data.test_published_images import TWELVE, write_cells
from tests.entry import CONFIG_DIR, ROOT, main
from tests.experiments import IMAGES, stand_in
from tests.forked import forked_jobs  # noqa: F401

pytestmark = pytest.mark.slow
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
SHORT = (
    "data=toy", "data.source.classes=21", "data.source.groups=3", "data.source.patients=4",
    "data.queries=4", "data.eval.queries=4", "data.meta_batch_size=2", "data.val_tasks=2", "data.test_tasks=2",
    "trainer=cpu", "trainer.max_steps=2", "trainer.val_check_interval=1", "resume=true",
)  # fmt: skip


# What the stand-in's rows have in the place of what README's data have.
NAMES = {
    "data=omniglot": "data=toy",
    "data.split.by=alphabet": "data.split.by=group",
    "data.split.which=Greek,Latin": "data.split.which=group0,group1",
    "data.eval.within=alphabet": "data.eval.within=group",
    "data.shots=[1,10]": "data.shots=[1,8]",
    "data/source@data.val.source=omniglot": "data/source@data.val.source=toy",
    "data/source@data.test.source=quickdraw": "data/source@data.test.source=toy",
}


def commands(start):
    return [line for line in COMMANDS if line.startswith(start)]


def test_every_command_is_run_here():
    starts = (
        "make ",
        "python train.py",
        "python eval.py",
        "python predict.py",
        "python export.py",
        "python demo.py",
        "python -m fewshot.sweep",
        "python -m fewshot.compare",
        "python -m fewshot.data",
        "python -m fewshot.report",
        "python -m fewshot.matrix protocol",
    )
    assert len(COMMANDS) == sum(len(commands(start)) for start in starts)


@pytest.mark.parametrize("line", commands("make "))
def test_make_targets(line):
    done = subprocess.run([*shlex.split(line), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ".venv/bin/" in done.stdout


def with_stand_in(arguments):
    """The arguments with the short run's, which take the place of what they name too; an experiment stays itself."""
    short = [o for o in SHORT if o != "trainer=cpu" or "trainer=ddp_cpu" not in arguments]
    for experiment in (a.partition("=")[2] for a in arguments if a.startswith("experiment=")):
        needed = stand_in(experiment)
        if "data=toy" not in needed:
            short = [o for o in short if not o.startswith(("data=", "data.source."))]
        short += [o for o in needed if o not in IMAGES]
    replaced = {override.split("=")[0] for override in short} | {"hydra.run.dir"}
    return [CONFIG_DIR, *(NAMES.get(a, a) for a in arguments if a.split("=")[0] not in replaced), *short]


def jobs_of(arguments):
    """How many runs a command starts: the product of the lengths of its lists outside brackets."""
    if "-m" not in arguments:
        return 5 if {"sweep=seeds", "sweep=cross_validation"} & set(arguments) else 1
    return prod(a.count(",") + 1 for a in arguments if "=[" not in a and "=" in a)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, no_pictures):
    folder = tmp_path_factory.mktemp("readme")
    done = main("train.py", CONFIG_DIR, *SHORT, f"paths.cache_dir={folder / 'cache'}", f"hydra.run.dir={folder / 'run'}")
    assert done.code == 0, done.err
    return folder / "run"


@pytest.mark.usefixtures("forked_jobs")
@pytest.mark.parametrize("line", commands("python train.py"))
def test_training(line, finished, tmp_path, monkeypatch):
    """Each config is composed and checked, and the first with each model is built and tried, up to the first step.

    The results are those of a run that went to its end.
    """

    def built(cfg):
        tried = tmp_path / cfg.model._target_
        if not tried.exists():
            tried.touch()
            require_shares(cfg)
            check(cfg, None)
        for name in ("results.json", "test_tasks.csv"):
            shutil.copy(finished / name, cfg.paths.output_dir)

    monkeypatch.setattr("fewshot.runtime.train.train", built)
    folder = tmp_path / "run"
    arguments = [a.replace("logs/train/runs/DATE_TIME", str(finished)) for a in with_stand_in(shlex.split(line)[2:])]
    done = main(
        "train.py", *arguments, f"paths.cache_dir={tmp_path / 'cache'}", f"hydra.run.dir={folder}", f"hydra.sweep.dir={folder}"
    )
    assert done.code == 0, done.err
    assert len(list(folder.rglob("results.json"))) == jobs_of(arguments)


@pytest.mark.parametrize("line", commands("python eval.py"))
def test_evaluating(line, finished, tmp_path):
    arguments = [NAMES.get(a, a).replace("logs/train/runs/DATE_TIME", str(finished)) for a in shlex.split(line)[2:]]
    done = main("eval.py", CONFIG_DIR, *arguments, f"paths.root_dir={tmp_path}")
    assert done.code == 0, done.err
    assert len([*tmp_path.glob("logs/eval/runs/*/results.json")]) == 1


@pytest.mark.parametrize("line", [line for name in ("predict", "export", "demo") for line in commands(f"python {name}.py")])
def test_using_what_was_trained(line, finished, tmp_path, monkeypatch):
    monkeypatch.setattr(DemoServer, "serve_forever", lambda _: None)
    for number in range(4):
        image = Image.fromarray(np.full((16, 16), 60 * number, dtype=np.uint8))
        for place in (f"examples/{number % 2}", "photos"):
            (tmp_path / place).mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / place / f"{number}.png")
    places = {"logs/train/runs/DATE_TIME": finished, "8000": 0}
    _, script, *pairs = shlex.split(line)
    arguments = [f"{key}={places.get(value, tmp_path / value)}" for key, value in (pair.split("=") for pair in pairs)]
    done = main(script, *arguments, "trust=[tests]", f"paths.root_dir={tmp_path}")
    assert done.code == 0, done.err
    assert len([*tmp_path.glob(f"logs/{script.removesuffix('.py')}/runs/*")]) == 1
    if script == "predict.py":
        assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 5
    else:
        assert "http://127.0.0.1:" in done.out or (tmp_path / "classifier.pt2").is_file()


@pytest.fixture(scope="module")
def swept(finished, tmp_path_factory):
    """A sweep of two jobs, each a copy of the finished run."""
    folder = tmp_path_factory.mktemp("readme") / "sweep"
    for rate in ("0.1", "0.4"):
        job, overrides = Job(folder / rate), [f"model.inner.lr={rate}", "seed=0"]
        shutil.copytree(finished, job.folder)
        hydra = yaml.safe_load((finished / ".hydra/hydra.yaml").read_text())
        config = yaml.safe_load((finished / "composed.yaml").read_text())
        job.freeze(yaml.safe_dump({**hydra, **config}), overrides, ["train.py", *overrides], "module:function", rate)
    return folder


@pytest.mark.parametrize("line", [line for name in ("sweep", "compare") for line in commands(f"python -m fewshot.{name}")])
def test_looking_at_a_sweep(line, swept):
    _, _, module, *arguments = (argument.replace("logs/train/sweeps/NAME", str(swept)) for argument in shlex.split(line))
    script = {"fewshot.sweep": "src/fewshot/sweep/__main__.py", "fewshot.compare": "src/fewshot/compare.py"}[module]
    done = main(script, *arguments)
    assert done.code == 0, done.err
    assert "lr=0.1" in done.out


@pytest.mark.parametrize("line", commands("python -m fewshot.report"))
def test_a_report(line, swept, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report([argument.replace("logs/train/sweeps/NAME", str(swept)) for argument in shlex.split(line)[3:]])
    assert "lr=0.1" in (tmp_path / "report.html").read_text("utf-8")


@pytest.mark.usefixtures("forked_jobs")
@pytest.mark.parametrize("line", commands("python -m fewshot.matrix protocol"))
def test_a_matrix(line, finished, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["matrix"])
    arguments = [argument.replace("logs/train/runs/DATE_TIME", str(finished)) for argument in shlex.split(line)[4:]]
    protocol([*arguments, "queries=2", "steps=1", "tasks=2", f"out={tmp_path}", CONFIG_DIR])
    assert "| 2 | inductive | 2 |" in (tmp_path / "matrix.md").read_text("utf-8")


@pytest.mark.parametrize("line", commands("python -m fewshot.data"))
def test_looking_at_data(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_cells(tmp_path, TWELVE)
    folders = [] if line.endswith("list") else [f"paths.data_dir={tmp_path}", f"paths.cache_dir={tmp_path / 'cache'}"]
    done = main("src/fewshot/data/__main__.py", *shlex.split(line)[3:], *folders)
    assert done.code == 0, done.err
    assert "chula_rbc12" in done.out


def test_the_experiments_it_lists_are_those_that_exist():
    (table,) = re.findall(r"\| experiment \|.*?\n\n", README, re.DOTALL)
    listed = set(re.findall(r"`(\w+)`", table))
    assert listed == {path.stem for path in (ROOT / "configs/experiment").glob("*.yaml")}


def test_the_files_it_names_exist():
    for link in re.findall(r"\]\((docs/[^)]+)\)", README):
        assert (ROOT / link).is_file()
    for folder in re.findall(r"^  (\w+)/ ", README, re.MULTILINE):
        assert (ROOT / "configs" / folder).is_dir() or (ROOT / "src/fewshot" / folder).is_dir()


def test_the_experiment_that_it_shows_composes(tmp_path):
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "experiment").mkdir()
    Path(tmp_path / "experiment/mine.yaml").write_text(text)
    done = main("train.py", f"--config-dir={tmp_path}", "experiment=mine", "--cfg", "job")
    assert done.code == 0, done.err
    assert "fewshot.backbones.resnet12.ResNet12" in done.out
