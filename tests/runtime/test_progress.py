"""What is seen of a run while it goes on: one steady line on a terminal, lines of text everywhere else."""

import io
import re
import shlex
from types import SimpleNamespace

import pytest
import rich
from hydra.core.override_parser.overrides_parser import OverridesParser
from rich.console import Console
from rich.progress import Progress

from fewshot.runtime import progress
from fewshot.runtime.callbacks import Throughput
from fewshot.runtime.metrics_csv import MetricsCsv
from fewshot.runtime.progress import ProgressBar, _fields
from fewshot.runtime.progress_lines import ProgressLines
from fewshot.runtime.provenance import command_to_continue
from tests.entry import QUICK, main


@pytest.fixture
def bar_of(monkeypatch):
    """Renders the bar of a run of 60,000 outer steps on a terminal, as one text."""

    def render(width, done, figures, description="Training", total=60_000):
        console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
        monkeypatch.setattr(rich, "get_console", lambda: console)
        datamodule = SimpleNamespace(first_step=0, meta_batch_size=8, tasks={"val": 200, "test": 600})
        model = SimpleNamespace(objective=SimpleNamespace(monitor="acc"))
        trainer = SimpleNamespace(max_steps=60_000, datamodule=datamodule, lightning_module=model)
        bar = ProgressBar()
        columns = bar.configure_columns(trainer)
        monkeypatch.setattr(progress.RichProgressBar, "get_metrics", lambda *_: figures)
        shown = Progress(*columns, console=console)
        shown.add_task(description, total=total, completed=done)
        text = " ".join(f"{name}: {value}" for name, value in bar.get_metrics(trainer, None).items())
        with console.capture() as captured:
            console.print(shown.get_renderable())
        return captured.get().rstrip("\n") + text

    return render


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_the_bar_stays_on_one_line_of_one_width(bar_of, width):
    figures = [{key: value for key, _ in _fields("acc").values()} for value in (0.0, 0.5, 9.87654321)]
    lines = [bar_of(width, done, shown) for done, shown in zip((1, 999, 60_000), figures, strict=True)]
    assert all("\n" not in line for line in lines)
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) <= width
    assert ("val: 9.877" in lines[2]) == (width >= 80)
    assert ("tasks/s:    9.9" in lines[2]) == (width >= 100)


def test_an_evaluation_counts_tasks(bar_of):
    """Not meta-batches of 8; the last holds fewer."""
    assert " 48/600 " in bar_of(80, 6, {}, "Testing", total=75)
    assert " 200/200 " in bar_of(80, 25, {}, "Validation", total=25)


LINES = (
    r"Step 12 of 20 \(60 %\): loss \d+\.\d{3}, accuracy \d+\.\d\d %, \d+\.\d tasks/s, 0:00:\d\d left",
    r"Validation after step 10: \d+\.\d\d ± \d+\.\d\d %, loss \d\.\d{3} \(6 tasks\), the best so far",
    r"Checkpoint after step 20: last\.ckpt",
)


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("terminal", [False, True])
def test_lines_go_to_the_log_and_to_a_console_without_a_bar(tmp_path, monkeypatch, terminal):
    if terminal:
        monkeypatch.setattr(rich, "_console", Console(force_terminal=True, width=80))
    run = tmp_path / "run"
    done = main("train.py", *QUICK, "trainer.max_steps=20", "trainer.val_check_interval=10", "callbacks.last.every_n_steps=100",
                f"hydra.run.dir={run}", f"paths.cache_dir={tmp_path / 'cache'}")  # fmt: skip
    assert done.code == 0, done.err
    logged = (run / "train.log").read_text()
    for line in LINES:
        assert re.search(line, logged), line
        assert bool(re.search(f"^{line}$", done.out, re.MULTILINE)) != terminal, line
    assert ("Training " in done.out) == terminal
    assert [int(step) for step in re.findall(r"Step (\d+) of", logged)] == [*range(2, 21, 2)]
    assert re.search(r"test/acc 0\.\d{4}", logged)


def test_each_line_leaves_the_figures_in_metrics_csv(tmp_path):
    """So that the status of a sweep knows how far its jobs are before their first checkpoint."""
    logger, lines = MetricsCsv(str(tmp_path / "metrics.csv")), ProgressLines()
    model = SimpleNamespace(objective=SimpleNamespace(monitor="acc"))
    trainer = SimpleNamespace(max_steps=20, loggers=[logger], callbacks=[Throughput()], callback_metrics={}, global_step=0)
    trainer.is_global_zero, trainer.progress_bar_callback = True, None
    for step in (1, 2, 3):
        figures = {"train/loss": 1.0 / step, "train/acc": 0.5}
        logger.log_metrics(figures, step - 1)
        trainer.global_step, trainer.callback_metrics = step, figures
        lines.on_train_batch_end(trainer, model, None, None, step - 1)
        assert (tmp_path / "metrics.csv").is_file() == (step >= 2)
    assert (tmp_path / "metrics.csv").read_text().splitlines() == ["step,train/acc,train/loss", "0,0.5,1.0", "1,0.5,0.5"]


@pytest.mark.parametrize(
    "folder", ["/logs/mine", "/logs/a b", "/logs/lr=0.1,0.2 (x)", '/logs/it\'s "quoted" $HOME', "/logs/ü;"]
)
def test_the_command_that_goes_on_names_the_folder_for_shell_and_hydra(monkeypatch, folder):
    monkeypatch.setattr("sys.argv", ["/work/train.py", "model=anil", "hydra.run.dir=logs/other"])
    python, script, model, place = shlex.split(command_to_continue(folder))
    assert (python, script, model) == ("python", "train.py", "model=anil")
    (override,) = OverridesParser.create().parse_overrides([place])
    assert (override.key_or_group, override.value()) == ("hydra.run.dir", folder)
