"""The report: what stands in it, and that nothing in a run's files can be more than text."""

import json
import math
import re
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from fewshot.errors import UserError
from fewshot.report import plots
from fewshot.report.__main__ import card, page_of, report
from fewshot.report.configs import read_configs
from fewshot.report.standings import cells, remark, standings
from fewshot.report.tables import Cell, markdown, tex
from tests.entry import ROOT
from tests.report.written import CLASSES, TASKS, write_job


class Tags(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Two learning rates far apart and one close to the better, three seeds each; the accuracies of their tasks."""
    folder = tmp_path_factory.mktemp("sweep")
    levels = {0.1: 0.4, 0.4: 0.7, 0.8: 0.72}
    return folder, {lr: [write_job(folder, lr, seed, level) for seed in range(3)] for lr, level in levels.items()}


@pytest.fixture(scope="module")
def page(sweep):
    configs, incomplete = read_configs([sweep[0]])
    return page_of(configs, "Rates & <b>", incomplete, hardest=1)


def test_a_page_loads_nothing_and_runs_its_own_script_alone(page):
    tags = Tags(page).tags
    assert [tag for tag, _ in tags].count("script") == 1
    for tag, attributes in tags:
        for name in ("src", "href", "xlink:href", "action", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:image/")), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes)
        assert "url(" not in attributes.get("style", "")
    assert "@import" not in page
    (policy,) = [attributes["content"] for tag, attributes in tags if attributes.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")


def test_names_are_text(page):
    text = Tags(page).text
    assert "Rates & <b>" in text
    for name in CLASSES:
        assert name in text
    assert "<b>" not in page


def test_all_parts_are_there(page):
    heads = re.findall(r"<h2>(.*?)</h2>", page)
    assert heads == [
        "Results", "Curves", "Confused classes", "Hardest test tasks", "Runs and their cost", "Protocol", "Commands and code",
    ]  # fmt: skip
    names = [unescape(name) for name in re.findall(r'<svg [^>]*aria-label="([^"]*)"', page)]
    assert names == [
        "validation accuracy, % over outer steps",
        "training loss over outer steps",
        "test accuracy, % over adaptation steps",
        "accuracy, % of test tasks",
        "calibration",
    ]
    assert "python train.py experiment=tiny model.inner.lr=0.4 seed=1" in page
    assert "Not shown: " in page  # the data of these runs were never there
    assert "commit abc" in page


def test_drawings_take_the_colours_of_the_page(page):
    drawings = "".join(re.findall(r"<svg .*?</svg>", page, re.DOTALL))
    assert "var(--c1)" in drawings
    assert set(re.findall(r"#[0-9a-f]{6}", drawings)) == set()


def test_the_same_runs_make_the_same_page(sweep, page):
    configs, incomplete = read_configs([sweep[0]])
    assert page_of(configs, "Rates & <b>", incomplete, hardest=1) == page


def test_the_best_is_bold_where_it_is_better_than_every_other(sweep):
    folder, accuracy = sweep
    found = {one.config.label: one for one in standings(read_configs([folder])[0])}
    assert [label for label, one in found.items() if one.leads] == ["lr=0.8"]
    assert not any(one.decided for one in found.values())  # 0.8 and 0.4 are too close
    assert found["lr=0.1"].difference.mean == pytest.approx(np.mean(accuracy[0.1]) - np.mean(accuracy[0.8]))
    assert found["lr=0.1"].p < 0.05 < found["lr=0.4"].p
    two = read_configs(sorted(path for path in folder.iterdir() if not path.name.startswith("0.8")))[0]
    assert "that both have" not in remark(standings(two))
    header, rows = cells(standings(two))
    assert [row[0].bold for row in rows] == [True, False]
    assert header[:4] == ["config", "runs", "validation, %", "test accuracy, %"]
    assert rows[0][3].text == f"{100 * np.mean(accuracy[0.4]):.2f}"
    assert "Bold" in remark(standings(two))


def test_folds_are_one_config(tmp_path):
    accuracy = [[write_job(tmp_path, lr, seed, 0.5, fold) for fold in range(3) for seed in (0, 1)] for lr in (0.1, 0.4)]
    configs, _ = read_configs([tmp_path])
    assert sorted(config.label for config in configs) == ["lr=0.1", "lr=0.4"]
    first = min(configs, key=lambda config: config.label)
    assert [run.label for run in first.runs][:2] == ["fold=0, seed=0", "fold=0, seed=1"]
    assert first.spread.mean == pytest.approx(np.mean(accuracy[0]))
    assert (first.spread.folds, first.spread.seeds) == (3, 2)
    header, _ = cells(standings(configs))
    assert "± folds" in header


def test_a_config_that_leads_by_folds_of_its_own_is_not_bold(tmp_path):
    """Its mean has an easy fold that the other lacks; on the tasks of both it is worse, and surely so."""
    for lr, folds in ((0.1, [(0, 0.3), (5, 0.9)]), (0.4, [(0, 0.6)])):
        for fold, level in folds:
            for seed in range(3):
                write_job(tmp_path, lr, seed, level, fold)
    found = standings(read_configs([tmp_path])[0])
    assert [one.config.label for one in found if one.leads] == ["lr=0.1"]
    (other,) = [one for one in found if not one.leads]
    assert other.difference.mean > 0.2
    assert other.p < 0.05
    assert not any(one.decided for one in found)
    assert "a difference over those that both have" in remark(found)


def test_runs_of_one_name_in_several_folders_are_told_apart(tmp_path):
    """The same words on the command line, and configs that differ by a file."""
    for place, level in (("a", 0.3), ("b", 0.9)):
        write_job(tmp_path / place, 0.1, 0, level)
        path = tmp_path / place / "0.1-0-None/job.json"
        path.write_text(path.read_text().replace("group-0.1-None", f"group-{place}"))
    configs, _ = read_configs([tmp_path / place / "0.1-0-None" for place in ("a", "b")])
    assert len({config.label for config in configs}) == 2
    assert len({one.config.spread.mean for one in standings(configs)}) == 2
    assert [one.leads for one in standings(configs)].count(True) == 1


def test_other_test_tasks_are_not_compared(sweep, tmp_path):
    write_job(tmp_path, 1.5, 0, 0.9, shots=5)
    found = standings(read_configs([sweep[0], tmp_path])[0])
    assert not any(one.decided for one in found)
    assert all(one.difference is None for one in found)
    assert "tested on other tasks: lr=" in remark(found)


def test_runs_without_a_test_have_their_validation(tmp_path):
    write_job(tmp_path, 0.1, 0, 0.5, tested=False)
    (tmp_path / "0.1-0-None/test_predictions.csv").unlink()
    configs, incomplete = read_configs([tmp_path / "0.1-0-None"])
    header, rows = cells(standings(configs))
    assert header == ["config", "runs", "validation, %"]
    assert [cell.text for cell in rows[0]] == ["MAML on toy", "1", "60.00"]
    assert "Results" in page_of(configs, "title", incomplete, hardest=1)


def test_hardest_tasks_are_of_the_first_fold_that_was_tested(tmp_path, monkeypatch):
    write_job(tmp_path, 0.1, 0, 0.5, fold=0, tested=False)
    (tmp_path / "0.1-0-0/test_predictions.csv").unlink()
    accuracy = write_job(tmp_path, 0.1, 0, 0.5, fold=1)
    asked = []
    monkeypatch.setattr("fewshot.report.hardest.hardest_tasks", lambda *given: (asked.append(given) or [], True))
    configs, _ = read_configs([tmp_path])
    assert "Hardest test tasks" in page_of(configs, "title", 0, hardest=2)
    ((folder, _, tasks),) = asked
    assert folder.name == "0.1-0-1"
    assert tasks == np.argsort(accuracy, kind="stable")[:2].tolist()


def test_runs_that_are_not_complete_are_counted(tmp_path):
    write_job(tmp_path, 0.1, 0, 0.5)
    write_job(tmp_path, 0.4, 0, 0.5)
    (tmp_path / "0.4-0-None/results.json").unlink()
    configs, incomplete = read_configs([tmp_path])
    assert "1 run of 1 config; 1 run not complete, and not shown" in page_of(configs, "title", incomplete, hardest=0)


def test_tables_for_papers_escape_what_their_language_reads():
    rows = [[Cell("a_b & 100 %|<i>", bold=True), Cell("1.00")], [Cell("c\\d"), Cell("–")]]
    assert markdown(["config", "±"], rows, "Remark.").splitlines() == [
        "| config | ± |", "| --- | ---: |", r"| **a_b & 100 %\|&lt;i>** | 1.00 |", "| c\\d | – |", "", "Remark.",
    ]  # fmt: skip
    lines = tex(["config", "±"], rows, "Remark.").splitlines()
    assert lines[0] == "% Remark."
    assert lines[3:] == [
        r"\toprule", r"config & $\pm$ \\", r"\midrule", r"\textbf{a\_b \& 100 \%|<i>} & 1.00 \\", r"c\textbackslash{}d & -- \\",
        r"\bottomrule", r"\end{tabular}",
    ]  # fmt: skip


def test_points_of_many_configs_stay_beside_their_adaptation_step():
    curves = [plots.Curve(f"config {number}", [(np.arange(3), np.ones(3))]) for number in range(plots.MOST)]
    (axes,) = plots.over_adaptation(curves, [np.ones(3)] * len(curves), "accuracy", 1).axes
    drawn = np.stack([container.lines[0].get_xdata() for container in axes.containers])
    assert np.abs(drawn - np.arange(3)).max() < 0.5
    assert len(np.unique(drawn)) == drawn.size


def test_commands(sweep, tmp_path, capsys):
    out = tmp_path / "report.html"
    report([str(sweep[0]), "--out", str(out), "--hardest", "0"])
    assert capsys.readouterr().out.strip() == str(out)
    assert out.read_text("utf-8").startswith("<!doctype html>")
    report([str(sweep[0]), "--format", "md"])
    assert capsys.readouterr().out.startswith("| config | runs |")
    card([str(sweep[0] / "0.1-0-None")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert f"{TASKS} tasks" in lines[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is no folder"),
        ([str(ROOT / "tests/report")], "holds no jobs of a sweep and no runs"),
        (["FOLDER", "--out", "nowhere/report.html"], "--out=nowhere/report.html is no file that can be written"),
    ],
)
def test_mistakes_are_told_in_a_line(sweep, arguments, message):
    with pytest.raises(UserError, match=message):
        report([argument.replace("FOLDER", str(sweep[0])) for argument in arguments])


def test_different_scores_are_not_put_into_one_table(sweep, tmp_path):
    write_job(tmp_path, 2, 0, 0.5, tested=False, objective={"monitor": "rmse"})
    with pytest.raises(UserError, match="decided by different scores"):
        read_configs([sweep[0], tmp_path])


@pytest.mark.slow
def test_results_are_read_without_pytorch(sweep):
    code = (
        "import sys; from fewshot.report.__main__ import report; "
        f"report([{str(sweep[0])!r}, '--hardest', '0']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path(ROOT))
    assert done.returncode == 0, done.stderr
    assert "<svg" in done.stdout


def test_one_task_of_one_run_has_a_difference_and_no_interval(sweep, tmp_path):
    """And a run that diverged stands in the table without a mean, beside the best of the others."""
    for lr, figures in ((0.2, [0.5]), (0.3, [0.75])):
        write_job(tmp_path, lr, 0, 0.5)
        replace_figures(tmp_path / f"{lr}-0-None", figures, 0.5)
    found = standings(read_configs([tmp_path])[0])
    header, rows = cells(found)
    assert {row[header.index("difference")].text for row in rows} == {"–", "-25.00"}
    write_job(tmp_path, 0.9, 0, 0.5)
    replace_figures(tmp_path / "0.9-0-None", [math.nan], math.nan)
    found = standings(configs := read_configs([tmp_path])[0])
    assert [one.config.label for one in found if one.leads] == ["lr=0.3"]
    assert "as outputs of some test tasks are not finite: lr=0.9." in remark(found)
    assert "accuracy, % of test tasks" in page_of(configs, "Rates", 0, hardest=0)


def replace_figures(folder, figures, mean):
    """Makes of a job one of a few tasks."""
    lines = [f"{task},0.2,{value},1,1" for task, value in enumerate(figures)]
    (folder / "test_tasks.csv").write_text("\n".join(["task,acc_0,acc_1,loss_0,loss_1", *lines]) + "\n")
    results = json.loads((folder / "results.json").read_text())
    results["metrics"]["test/acc"] = None if math.isnan(mean) else mean
    results["test"]["tasks"] = len(figures)
    (folder / "results.json").write_text(json.dumps(results))
