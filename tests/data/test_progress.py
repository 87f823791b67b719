"""What is shown of a long computation where there is no terminal."""

import logging

import pytest
import rich
from rich.console import Console

from fewshot.data import progress
from fewshot.data.progress import counted


def test_lines_count_and_foretell(monkeypatch, caplog, capsys):
    """Three of ten were done before: two more in ten seconds foretell 25 for the other five."""
    now = iter([100.0, 105.0, 110.0, 150.0])
    monkeypatch.setattr(progress, "monotonic", lambda: next(now))
    monkeypatch.setattr(progress, "SECONDS", 8)
    with caplog.at_level(logging.INFO), counted("Features of birds", 10, done=3) as count:
        count(1)
        count(1)
        count(5)
    assert [record.message for record in caplog.records] == ["Features of birds: 5 of 10, 0:00:25 left"]
    assert "10/10" in capsys.readouterr().out


@pytest.mark.parametrize("width", [80, 40])
def test_a_long_name_leaves_room_for_the_count(monkeypatch, capsys, width):
    monkeypatch.setattr(rich, "_console", Console(width=width))
    with counted("Features of " + "meta_dataset-" * 8, 34_500) as count:
        count(34_500)
    (line,) = capsys.readouterr().out.strip().splitlines()
    assert len(line) <= width
    assert "… " in line
    assert "34500/34500 0:00:00" in line
