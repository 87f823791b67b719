"""Hardest tasks as they are shown: the run's own rows, by its task numbers; or a reason why they are not."""

import base64
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from fewshot.errors import UserError
from fewshot.report.hardest import hardest_tasks
from fewshot.report.readings import queries_of
from fewshot.runtime.build import build_data
from tests.predict.test_command import write_image
from tests.report.written import write_csv

NAMES = ["a<b", "дом"]


def run_tested(cfg):
    """The folder of a run whose data are prepared and whose test took the first query of class 0 for class 1; its tasks."""
    folder = Path(cfg.paths.output_dir)
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    datamodule = build_data(cfg)
    datamodule.check(["test"])
    datamodule.prepare(["test"])
    datamodule.setup("test")
    classes = datamodule.prepared["test"].table.classes
    batches = [datamodule.tasks_of("test").draw([task])[0] for task in range(2)]
    rows = []
    for task, batch in enumerate(batches):
        names = [classes[number] for number in batch.rows.class_id[0].tolist()]
        for place, (row, label) in enumerate(zip(batch.rows.query[0].tolist(), batch.query_y[0].tolist(), strict=True)):
            rows.append([task, row, "", names[label], names[1 if place == 0 else label], 0.75])
    header = ["task", "row", "item", "true", "predicted", "probability"]
    write_csv(folder / "test_predictions.csv", header, rows)
    return folder, batches


@pytest.fixture
def of_images(compose_config, tmp_path):
    for part in ("train", "val", "test"):
        for level, name in enumerate(NAMES):
            for number in range(4):
                write_image(tmp_path / f"images/{part}/{part}{name}/{number}.png", level, noise=number)
    size = ("data.ways=2", "data.shots=1", "data.queries=2", "data.eval.queries=2", "data.image_shape=[1,28,28]")
    cfg = compose_config(
        tmp_path, "data=folder", f"paths.data_dir={tmp_path / 'images'}", "data.mean=[0.5]", "data.std=[0.5]", *size
    )
    return run_tested(cfg)


def test_pictures_are_those_of_the_task(of_images):
    folder, batches = of_images
    (task,), pictures = hardest_tasks(folder, queries_of(folder), [1])
    assert pictures
    assert (task.number, task.accuracy) == (1, 0.75)
    first = next(one for one in task.classes if one.wrong)
    assert (first.wrong, first.queries, len(first.support)) == (1, 2, 1)
    assert first.mistakes[0].predicted in {one.name for one in task.classes} - {first.name}
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(first.mistakes[0].shown.partition(",")[2]))))
    assert (shown == batches[1].query_x[0, 0, 0].numpy()).all()


def test_without_its_data_a_reason_is_given(of_images, tmp_path):
    folder, _ = of_images
    queries = queries_of(folder)
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(UserError, match="its prepared data are no longer in"):
        hardest_tasks(folder, queries, [0])


def test_other_data_are_not_taken_for_its_own(of_images):
    folder, _ = of_images
    queries = queries_of(folder)
    queries.row[0] = 10_000
    with pytest.raises(UserError, match="prepared anew"):
        hardest_tasks(folder, queries, [0])


def test_a_config_of_another_package_is_not_built(of_images):
    folder, _ = of_images
    path = folder / "config.yaml"
    path.write_text(path.read_text("utf-8").replace("fewshot.data.images.folder", "somebody.elses"), "utf-8")
    with pytest.raises(UserError, match="no part of fewshot"):
        hardest_tasks(folder, queries_of(folder), [0])


def test_sentences_are_shown_as_they_are(compose_config, tmp_path):
    texts = [f"{name} says <{number}> & more" for name in NAMES for number in range(4)]
    rows = [
        [texts[4 * c + n], f"{part}{name}", part]
        for part in ("train", "val", "test")
        for c, name in enumerate(NAMES)
        for n in range(4)
    ]
    write_csv(tmp_path / "mine.csv", ["text", "class", "split"], rows)
    cfg = compose_config(
        tmp_path, "data=sentences", f"data.source.file={tmp_path / 'mine.csv'}", "data.buckets=512", "data.image_shape=[64]",
        "model=protonet", "model/backbone=embedding_bag", "~model.backbone.filters", "data.ways=2", "data.eval.queries=2",
    )  # fmt: skip
    folder, _ = run_tested(cfg)
    (task,), pictures = hardest_tasks(folder, queries_of(folder), [0])
    assert not pictures
    mistake = next(one for of_task in task.classes for one in of_task.mistakes)
    assert mistake.shown in texts
