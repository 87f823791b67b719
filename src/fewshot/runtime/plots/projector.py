"""Features of validation queries for TensorBoard's projector."""

import io
import math
from pathlib import Path
from typing import cast

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from google.protobuf import text_format
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from torch import Tensor

from fewshot.backbones.backbone import Backbone
from fewshot.data.datamodule import EpisodicDataModule
from fewshot.errors import check_int
from fewshot.files import written_whole
from fewshot.models.base import MetaLearner
from fewshot.models.embedding import EmbeddingLearner
from fewshot.runtime.plots.at_validation import AtValidation
from fewshot.runtime.plots.predictions import Answers, answers, are_pictures
from fewshot.tasks.batch import TaskBatch

FOLDER = "projector"


class FeatureProjector(AtValidation):
    """The newest features of the first validation tasks' queries.

    The files are written anew each time: TensorBoard's projector has no axis of time. (PyTorch's ``add_embedding`` adds to
    them, also what a killed run had written before.)

    Args:
        tasks: whose queries are shown.
        every_n_steps: outer steps between writings.
    """

    def __init__(self, tasks: int, every_n_steps: int) -> None:
        super().__init__(every_n_steps)
        check_int("callbacks: tasks of FeatureProjector", tasks, least=1)
        self._tasks = tasks

    def show(self, trainer: L.Trainer, model: MetaLearner, step: int) -> None:
        datamodule = cast(EpisodicDataModule, trainer.datamodule)  # type: ignore[attr-defined]
        folders = [Path(logger.log_dir) for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not folders or not are_pictures(datamodule):
            return
        seen = answers(trainer, model, "val", range(min(self._tasks, datamodule.tasks["val"])))
        with torch.no_grad(), trainer.precision_plugin.val_step_context():
            features = query_features(model, seen.batch)
        if features is not None:
            for folder in folders:
                write(folder, features.float().cpu().numpy(), seen)


def query_features(model: MetaLearner, batch: TaskBatch) -> Tensor | None:
    """What queries are told apart by, ``(T*N*Q, D)``: an embedding as it is compared, else the backbone before any adaptation.

    None where a network has no backbone.
    """
    if isinstance(model, EmbeddingLearner):
        with model.in_evaluation(batch):
            return model.embed(batch)[1].flatten(0, 1).flatten(1)
    backbone = next((module for module in model.network.modules() if isinstance(module, Backbone)), None)
    if backbone is None:
        return None
    # Task by task: batch normalisation is to see the queries of one task.
    return torch.cat([backbone(of_task) for of_task in batch.query_x])


def write(folder: Path, features: npt.NDArray[np.float32], seen: Answers) -> None:
    """Writes what the projector reads: a line a query with its features, one with its class, task and fate, and its image."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    lines = ["class\ttask\trecognised"]
    for task, classes, predicted in zip(seen.index, seen.classes, seen.predicted, strict=True):
        lines += [
            f"{classes[label]}\t{task}\t{'yes' if guess == label else 'no'}"
            for label, guess in zip(seen.labels, predicted, strict=True)
        ]
    images = seen.query.reshape(-1, *seen.query.shape[2:])
    table, sprite = io.BytesIO(), io.BytesIO()
    np.savetxt(table, features, fmt="%.5g", delimiter="\t")
    Image.fromarray(_mosaic(images)).save(sprite, format="PNG")
    config = ProjectorConfig()
    one = config.embeddings.add()
    one.tensor_name = "query features"
    one.tensor_path, one.metadata_path = f"{FOLDER}/features.tsv", f"{FOLDER}/queries.tsv"
    one.sprite.image_path = f"{FOLDER}/images.png"
    one.sprite.single_image_dim.extend([images.shape[2], images.shape[1]])
    for name, content in (
        (f"{FOLDER}/features.tsv", table.getvalue()),
        (f"{FOLDER}/queries.tsv", ("\n".join(lines) + "\n").encode()),
        (f"{FOLDER}/images.png", sprite.getvalue()),
        ("projector_config.pbtxt", text_format.MessageToString(config).encode()),
    ):
        with written_whole(folder / name) as file:
            file.write(content)


def _mosaic(images: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Images ``(B, H, W, C)`` in a square of rows, as the projector cuts them out again."""
    count, height, width, channels = images.shape
    side = math.ceil(math.sqrt(count))
    canvas = np.zeros((side * side, height, width, 3), dtype=np.uint8)
    canvas[:count] = np.round(images * 255).astype(np.uint8).repeat(3 // channels, axis=-1)
    return canvas.reshape(side, side, height, width, 3).swapaxes(1, 2).reshape(side * height, side * width, 3)
