"""Every notebook runs from its first cell to its last."""

import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pytest
from nbclient import NotebookClient

from tests.entry import main

PRINTED = {"tasks_and_adaptation": "after 3 steps:", "own_images": "accuracy:", "own_sentences": "accuracy:"}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize(
        "path", sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem
    ),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def folders(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("FEWSHOT_CACHE_DIR", cache)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of tensors in matplotlib
def test_its_cells_run(path, monkeypatch, capsys):
    """In this process, and so do the commands that it starts: importing everything anew takes longer than all cells."""
    done, start = [], subprocess.run

    def run(command, *given, **options):
        ours = command[0] == sys.executable
        return done.append(main(Path(command[1]).name, *command[2:])) if ours else start(command, *given, **options)

    monkeypatch.setattr(subprocess, "run", run)
    names = {}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, path.name, "exec"), names)  # noqa: S102  our own
    plt.close("all")
    assert [(run.code, run.err) for run in done] == [(0, "")] * len(done)
    assert PRINTED[path.stem] in capsys.readouterr().out


@pytest.mark.proof
@pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client", "ignore::DeprecationWarning:zmq")
def test_it_runs_in_jupyter(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = [
        output["text"] for cell in notebook.cells for output in cell.get("outputs", []) if output["output_type"] == "stream"
    ]
    assert any(PRINTED[path.stem] in text for text in printed)
