"""Runs compared by the command that a user types: what it pairs, what it refuses, and which way is better."""

import json
import sys
from unittest.mock import patch

import numpy as np
import pytest

from fewshot.compare import as_json, chosen, compare, entries_of, main, show
from fewshot.errors import UserError
from fewshot.evaluation.results import write_results
from fewshot.runtime.cli import mistakes_explained
from fewshot.sweep.job import Job

TASKS = 60
RANDOM = np.random.default_rng(0)
HARDNESS = RANDOM.normal(0.6, 0.1, TASKS)


def finish(folder, level, score="acc", tested=True, tasks=TASKS, **protocol):
    """A run's results, with tasks that it shares with all others unless `protocol` says otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = level + HARDNESS[:tasks] + RANDOM.normal(0, 0.02, tasks)
    lines = [f"{task},{value:.9g}" for task, value in enumerate(figures)]
    (folder / "test_tasks.csv").write_text("\n".join([f"task,{score}_0", *lines]) + "\n")
    known = {
        "data": "toy", "splits_sha256": {"test": "a"}, "ways": 3, "shots": 1, "queries": 4, "eval_seed": 0, "test_tasks": tasks,
        "seed": 0, "train": {"steps": 6}, "objective": {"monitor": score}, "splits_units": {"train": 6, "test": 2},
    }  # fmt: skip
    write_results(
        folder / "results.json",
        name=None,
        metrics={f"val/{score}": level},
        test={"tasks": tasks, f"{score}_per_step": [figures.mean()], "per_task_file": "test_tasks.csv"} if tested else None,
        protocol=known | protocol,
        cost={},
        provenance={"data_sha256": {"test": "b"}},
    )
    return folder


def said(capsys, *arguments):
    """Exit code, output and error of a command."""
    with patch.object(sys, "argv", ["compare", *map(str, arguments)]):
        try:
            with mistakes_explained("train"):
                main()
            code = 0
        except SystemExit as error:
            code = error.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_table_of_80_columns(tmp_path, capsys):
    """Paired: a point is seen that the spread of tasks, ten points, would hide."""
    runs = [finish(tmp_path / name, level, model=name) for name, level in (("maml", 0), ("anil", 0.02), ("reptile", -0.2))]
    code, out, _ = said(capsys, *runs)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "accuracy, %; higher is better; differences to maml" in out
    rows = {line.split()[0]: line.split() for line in out.splitlines()[:8] if line.strip()}
    assert (rows["anil"][-1], rows["reptile"][-1]) == ("better", "worse")
    assert "All: paired on 60 tasks, seed by seed (1)." in out
    assert "anil differs from maml in" in out
    assert "model   maml   anil" in out


@pytest.mark.parametrize(("score", "verdict"), [("acc", "better"), ("rmse", "worse")])
def test_better_is_lower_where_errors_decide(tmp_path, score, verdict):
    first, second = (finish(tmp_path / name, level, score) for name, level in (("a", 0), ("b", 0.05)))
    entries = entries_of([first, second])
    (found,) = compare(entries, entries[0])
    assert found.found.mean > 0
    assert found.verdict == verdict


def test_json_has_null_for_what_there_is_not(tmp_path, capsys):
    runs = [finish(tmp_path / name, level) for name, level in (("a", 0), ("b", 0.05), ("c", 0.0))]
    code, out, _ = said(capsys, *runs, "--json", "--baseline", runs[1])
    content = json.loads(out)
    assert code == 0
    assert content["baseline"]["label"] == "b"
    assert [each["label"] for each in content["comparisons"]] == ["a", "c"]
    first = content["comparisons"][0]
    assert first["ci95_seeds"] is None
    assert first["paired"] is True
    assert first["p_holm"] >= first["p"]
    assert first["needed"]["interval"] < first["needed"]["unpaired_interval"]


def test_other_tasks_of_the_same_kind_are_compared_unpaired(tmp_path, capsys):
    runs = [finish(tmp_path / "a", 0), finish(tmp_path / "b", 0, eval_seed=1)]
    code, out, _ = said(capsys, *runs)
    assert code == 0
    assert "All: other tasks than the baseline's, so nothing is paired: Welch's intervals." in out
    assert "Wilcoxon" not in out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"shots": 5}, "they differ in shots (1 | 5); evaluate one"),
        ({"data": "other", "ways": 5}, "they differ in dataset (toy | other), ways (3 | 5);"),
        ({"splits_sha256": {"test": "c"}}, "they differ in split hash (a | c);"),
        ({"queries": 1}, "they differ in queries (4 | 1);"),
    ],
)
def test_tasks_of_another_kind_are_refused_in_one_line(tmp_path, capsys, change, says):
    runs = [finish(tmp_path / "a", 0), finish(tmp_path / "b", 0, **change)]
    code, out, err = said(capsys, *runs)
    assert code == 2
    assert not out
    assert err.startswith("error: a and b were tested on tasks of other kinds:")
    assert says in err
    assert err.count("\n") == 1


def test_what_cannot_be_compared_is_said(tmp_path):
    tested, untested = finish(tmp_path / "a", 0), finish(tmp_path / "b", 0, tested=False)
    other = finish(tmp_path / "c", 0, "rmse")
    with pytest.raises(UserError, match=r"b in .* was not tested; python eval\.py run=RUN"):
        entries_of([tested, untested])
    with pytest.raises(UserError, match="c is decided by rmse, a by acc"):
        compare(entries_of([tested, other]), entries_of([tested, other])[0])
    with pytest.raises(UserError, match="nowhere is no folder"):
        entries_of([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="--baseline='x' fits 0 of the runs; choose one of: 'a', 'c'"):
        chosen(entries_of([tested, other]), "x")


def sweep(folder):
    """Two models on three folds with two seeds each."""
    for model, level in (("maml", 0), ("anil", 0.03)):
        for fold in range(3):
            for seed in range(2):
                job = Job(folder / f"{model}-{fold}-{seed}")
                overrides = [f"model={model}", f"seed={seed}", f"data.split.fold={fold}"]
                job.freeze("{}", overrides, ["train.py"], "module:function", f"{model}-{fold}")
                finish(job.folder, level + 0.05 * fold, seed=seed, model=model, splits_sha256={"test": f"{fold}"})
    return folder


def test_a_sweep_s_folds_and_seeds_are_one_config(tmp_path, capsys):
    entries = entries_of([sweep(tmp_path / "sweep")])
    assert [entry.label for entry in entries] == ["model=anil", "model=maml"]
    baseline = chosen(entries, "model=maml")
    (found,) = compare(entries, baseline)
    assert (found.found.folds, found.found.seeds, found.found.tasks) == (3, 2, 180)
    assert found.found.mean == pytest.approx(0.03, abs=0.01)
    assert list(found.fields) == ["model"]
    show([found], baseline)
    assert "All: paired on 3 folds, 180 tasks, seed by seed (2)." in capsys.readouterr().out
    assert json.loads(as_json([found], baseline))["comparisons"][0]["ci95_folds"] > 0
    alone, *others = entries_of([finish(tmp_path / "one", 0, splits_sha256={"test": "1"}), tmp_path / "sweep"])
    assert [each.found.folds for each in compare(others, alone)] == [1, 1]


def test_a_baseline_is_named_by_the_value_of_an_override(tmp_path):
    """Of a sweep, and of a run by the command that started it."""
    for words in ("maml", "model=maml"):
        assert chosen(entries_of([sweep(tmp_path / "sweep")]), words).label == "model=maml"
    runs = [finish(tmp_path / name, 0) for name in ("a", "b")]
    for run, model in zip(runs, ("rating_factors", "rating_bias"), strict=True):
        (run / ".hydra").mkdir()
        (run / ".hydra/overrides.yaml").write_text(f"- experiment=movielens_10shot\n- model={model}\n")
    entries = entries_of(runs)
    for words in ("rating_factors", "model=rating_factors"):
        assert chosen(entries, words).label == "a"
    with pytest.raises(UserError, match="fits 2 of the runs"):
        chosen(entries, "movielens_10shot")


def test_configs_of_two_sweeps_keep_names_of_their_own(tmp_path):
    entries = entries_of([sweep(tmp_path / "one"), sweep(tmp_path / "two")])
    labels = [entry.label for entry in entries]
    assert len(set(labels)) == 4
    assert labels[0] == f"model=anil ({tmp_path / 'one'})"


def test_it_is_said_where_means_are_over_more_than_what_is_compared(tmp_path, capsys):
    runs = [finish(tmp_path / "a", 0), finish(tmp_path / "b", 0, tasks=40)]
    _, out, _ = said(capsys, *runs)
    text = " ".join(out.split())
    assert "each mean is over all that its own runs have: a: 60 tasks; b: 40 tasks." in text
    assert "each mean is over" not in said(capsys, runs[0], finish(tmp_path / "c", 0))[1]


def test_a_run_that_diverged_is_refused_in_a_line(tmp_path, capsys):
    run = finish(tmp_path / "a", 0, "rmse")
    lines = (run / "test_tasks.csv").read_text().splitlines()
    (run / "test_tasks.csv").write_text("\n".join([*lines[:-1], "59,nan"]) + "\n")
    results = json.loads((run / "results.json").read_text())
    results["metrics"]["test/rmse"] = None
    (run / "results.json").write_text(json.dumps(results))
    code, _, err = said(capsys, run, finish(tmp_path / "b", 0, "rmse"))
    assert code == 2
    assert "has test tasks whose rmse is not finite, and so no mean" in err
