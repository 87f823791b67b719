"""A run's model as a predictor uses it: raw tasks to outputs, features and scores, computed as in an evaluation of the run."""

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fewshot.backbones.norm import has_batch_norm
from fewshot.backbones.sentence_encoder import SentenceEncoder
from fewshot.data.source import ArraySpec, Source
from fewshot.errors import UserError
from fewshot.predict.inputs import Reader, Scale
from fewshot.predict.run_files import Run
from fewshot.predict.unknown import known_scores
from fewshot.tasks.batch import TaskBatch


class TaskPredictor:
    """Answers the queries of tasks.

    Args:
        run: what was trained.
        transductive: answer queries together, where the run was tested so.
        device: that computes.

    Attributes:
        model: with the run's weights.
        tested_together: whether the run's evaluation answers queries together, each by the help of the others.
        together: whether this predictor does.
        row: what one row is: an input of the run's dataset, or its features where a frozen encoder has read it.
        reader: makes rows of a user's inputs.
        scale: normalises rows.
        temperature: that outputs are divided by for probabilities; 1 where none was fitted.
    """

    def __init__(self, run: Run, transductive: bool, device: str) -> None:
        self.run, self.device = run, _device(device)
        self.model = run.build_model(transductive).to(self.device)
        by_norm = run.inductive.keys() == {"batch_norm"}
        self.tested_together = bool(run.inductive) and (has_batch_norm(self.model.network) or not by_norm)
        self.together = transductive and self.tested_together
        self.row, encode = run.row, None if run.source is None else run.source.encode
        backbone = self.model.network.get_submodule("features")
        if isinstance(backbone, SentenceEncoder) and run.source is not None:
            self.row, encode = ArraySpec(backbone.input_shape, "float32"), partial(_encoded, backbone, run.source)
        self.reader = Reader(self.row, encode)
        data = run.config["data"]
        self.scale = Scale(self.row, data.get("mean", []), data.get("std", [])).to(self.device)
        self.temperature = float((run.calibration or {}).get("temperature", 1.0))

    def outputs(self, batch: TaskBatch) -> Tensor:
        """The model's outputs after adaptation ``(T, B, outputs)`` for tasks of rows, in the main memory."""
        return self.trajectory(batch)[:, -1]

    def answers(self, task: TaskBatch) -> Tensor:
        """The outputs ``(B, outputs)`` for the queries of a batch of one task.

        Raises:
            UserError: some say nothing, as they are not finite.
        """
        return finite(self.outputs(task)[0])

    def trajectory(self, batch: TaskBatch) -> Tensor:
        """The outputs before adaptation and after each step ``(T, steps+1, B, outputs)``, in the main memory."""
        model, half = self.model, self.run.config["trainer"].get("precision") == "bf16-mixed"
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            return model.evaluate(self.scaled(batch)).to(torch.float32).cpu()

    def scaled(self, batch: TaskBatch) -> TaskBatch:
        """The tasks as the model sees them."""
        batch = batch.to(self.device)
        return batch.with_inputs(self.scale(batch.support_x), self.scale(batch.query_x))

    def known_scores(self, batch: TaskBatch, outputs: Tensor) -> dict[str, Tensor]:
        """How sure it is that queries are of one of a task's classes: `known_scores`, for outputs ``(T, B, N)``."""
        return known_scores(self.model, self.scaled(batch), outputs)

    def features(self, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        """Features of support ``(T, S, D)`` and queries ``(T, B, D)`` before adaptation, in the main memory."""
        support, query = self.model.features_of(self.scaled(batch))
        return support.float().cpu(), query.float().cpu()


def finite(outputs: Tensor) -> Tensor:
    """Outputs ``(B, outputs)``, if they say something.

    Raises:
        UserError: some do not, as they are not finite.
    """
    if lost := int((~outputs.amax(dim=-1).isfinite()).sum()):
        raise UserError(
            f"the model's outputs for {lost} of {len(outputs)} inputs are not finite: it diverges on these examples; give "
            "others, or a run with a lower model.inner.lr"
        )
    return outputs


def _device(name: str) -> torch.device:
    """What computes.

    Raises:
        UserError: there is no such device here.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # of PyTorch, one where it has no CUDA
        raise UserError(f"device={name} is none of this machine ({error}); choose cpu, or cuda where there is a GPU") from error
    return device


def _encoded(encoder: SentenceEncoder, source: Source, sentence: str) -> npt.NDArray[Any]:
    """Features ``(D,)`` of a sentence, as of a dataset's own."""
    source.encode(sentence)  # refuses what is none
    with torch.no_grad():
        return np.asarray(encoder([sentence])[0].cpu())
