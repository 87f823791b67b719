"""``metrics.csv``: one line for everything logged of an outer step, the same whether the run was interrupted or not."""

import csv
import io
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning_utilities.core.rank_zero import rank_zero_only

from fewshot.errors import UserError
from fewshot.files import written_whole


class MetricsCsv(Logger):
    """Writes logged figures to a CSV file.

    (Lightning's own deletes the file of the run it continues, and a kill while it adds a column loses what was there.)

    Args:
        path: of the file.
        first_step: lines from this step on, left by an earlier process, are dropped: they will be written again.

    Raises:
        UserError: what an earlier process left cannot be read.
    """

    def __init__(self, path: str, first_step: int = 0) -> None:
        super().__init__()
        self._path = Path(path)
        self._rows: list[dict[str, Any]] = []
        if first_step and self._path.is_file():
            self._rows = [row for row in _read(self._path) if int(row["step"]) < first_step]

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """``config.yaml`` holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if self._rows and self._rows[-1]["step"] == step:
            self._rows[-1].update(metrics)
        else:
            self._rows.append({"step": step, **metrics})

    @rank_zero_only
    def save(self) -> None:
        """Writes the file whole."""
        columns = sorted({name for row in self._rows for name in row} - {"step"})
        text = io.StringIO()
        writer = csv.DictWriter(text, ["step", *columns])
        writer.writeheader()
        writer.writerows(self._rows)
        with written_whole(self._path) as file:
            file.write(text.getvalue().encode())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()


def _read(path: Path) -> list[dict[str, Any]]:
    """The lines that an earlier process left."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines: list[dict[str, Any]] = list(csv.DictReader(file))
        whole = all(None not in line and None not in line.values() and int(line["step"]) >= 0 for line in lines)
    except (OSError, ValueError, TypeError, KeyError, csv.Error):
        whole = False
    if not whole:
        raise UserError(f"{path} cannot be read; delete it to continue without the figures logged so far")
    return lines
