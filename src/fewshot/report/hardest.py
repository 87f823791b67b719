"""The test tasks that were solved worst, with what was shown and what was taken for what.

Needs the run's data as they were prepared; PyTorch is imported here alone.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fewshot.errors import UserError
from fewshot.report.readings import Queries

SHOTS, MISTAKES = 2, 4
"""Support examples and wrong queries shown of a class, at the most."""
QUALITY = 85
"""Of JPEG, that photographs are put into the page as; drawings are PNG."""


@dataclass(frozen=True)
class Mistake:
    """A query that was taken for another class: what it looks like, the class, its probability."""

    shown: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class HardClass:
    """A class of a hard task.

    Attributes:
        support: some of what it was learned from: sentences, or pictures as data URIs.
        mistakes: some of its queries that were not recognised.
        wrong, queries: how many were not, and how many there were.
    """

    name: str
    support: tuple[str, ...]
    mistakes: tuple[Mistake, ...]
    wrong: int
    queries: int


@dataclass(frozen=True)
class HardTask:
    """A task by its number, with the share of its queries that were recognised."""

    number: int
    accuracy: float
    classes: tuple[HardClass, ...]


def hardest_tasks(folder: Path, queries: Queries, tasks: Sequence[int]) -> tuple[list[HardTask], bool]:
    """Some test tasks of a run as they can be shown, and whether they are pictures.

    Args:
        folder: of the run.
        queries: of its test.
        tasks: their numbers.

    Raises:
        UserError: its data cannot be shown, or are not there any more; the message says why.
    """
    datamodule = _opened(folder)
    content, drawn = datamodule.prepared["test"], datamodule.tasks_of("test")
    pictures = content.pieces[0][0].x.ndim == 4
    if not pictures and "text" not in content.table.columns:
        raise UserError("its rows are neither pictures nor sentences")
    return [_hard_task(content.table, batch, queries, pictures) for number in tasks for batch in drawn.draw([number])], pictures


def _hard_task(table: Any, batch: Any, queries: Queries, pictures: bool) -> HardTask:
    number, support, labels = int(batch.index[0]), batch.rows.support[0].tolist(), batch.support_y[0].tolist()
    rows = [*support, *batch.rows.query[0].tolist()]
    if pictures:
        shown = dict(zip(rows, map(picture, (*batch.support_x[0].numpy(), *batch.query_x[0].numpy())), strict=True))
    else:
        text = table.columns["text"]
        shown = {row: text.names[text.values[row]] for row in rows}
    asked = np.flatnonzero(queries.task == number)
    if not set(queries.row[asked].tolist()) <= set(rows):
        raise UserError("its data have been prepared anew since, and are not those of its test")
    classes = []
    for label, name in enumerate(table.classes[one] for one in batch.rows.class_id[0].tolist()):
        own = [query for query in asked if queries.true[query] == name]
        wrong = sorted((query for query in own if not queries.right[query]), key=lambda query: -queries.probability[query])
        mistakes = [
            Mistake(shown[int(queries.row[query])], queries.predicted[query], float(queries.probability[query]))
            for query in wrong[:MISTAKES]
        ]
        shots = [shown[row] for row, of_row in zip(support, labels, strict=True) if of_row == label]
        classes.append(HardClass(name, tuple(shots[:SHOTS]), tuple(mistakes), len(wrong), len(own)))
    return HardTask(number, float(queries.right[asked].mean()), tuple(classes))


def _opened(folder: Path) -> Any:
    """The data module of a run with its test part opened; nothing is downloaded or decoded, and the config is not trusted."""
    from fewshot.data.parts import Part
    from fewshot.predict.targets import build
    from fewshot.runtime.config_check import SHARED
    from fewshot.runtime.config_files import RESOLVED, load_config
    from fewshot.runtime.old_runs import renewed

    config = renewed(load_config(folder / RESOLVED))
    data = config["data"]
    for part in ("train", "val", "test"):
        if "source" in data[part] and data[part]["source"] is None:
            data[part]["source"] = data["source"]
    node = {**{key: value for key, value in data.items() if key not in SHARED}, "augment": []}
    datamodule = build(
        {**node, "shuffled_labels": config["control"] == "shuffled_labels", "allow_seen_classes": True},
        trust=("fewshot.data", "fewshot.tasks"),
    )
    if not isinstance(datamodule.parts["test"], Part):
        raise UserError("its tasks are computed, and have no rows to show")
    if not datamodule.is_prepared(["test"]):
        raise UserError(f"its prepared data are no longer in {data['cache_dir']}")
    datamodule.check(["test"])
    datamodule.prepare(["test"])
    datamodule.setup("test")
    return datamodule


def picture(pixels: npt.NDArray[np.uint8]) -> str:
    """An image ``(C, H, W)`` as a data URI."""
    kind = "PNG" if len(pixels) == 1 else "JPEG"
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    file = io.BytesIO()
    image.save(file, kind, **({"quality": QUALITY} if kind == "JPEG" else {"optimize": True}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
