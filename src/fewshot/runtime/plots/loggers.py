"""Where everything that is shown of a run goes: to its loggers, except metrics.csv."""

from collections.abc import Mapping
from io import BytesIO

import lightning as L
import numpy as np
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure
from PIL import Image

from fewshot.runtime.metrics_csv import MetricsCsv

FINAL = "when trained"
"""Group of what the best checkpoint makes of the test, in TensorBoard: it comes after the curves, ``train`` and ``val``."""
FINAL_FOLDER = "final"
"""Folder below that of TensorBoard's curves with what HPARAMS shows, which lists every figure of a folder that it finds."""

DPI = 120
"""Pixels per inch of a picture."""


def boards(trainer: L.Trainer) -> list[Logger]:
    """The loggers that pictures can be shown on; none on all processes but the first."""
    kinds = (TensorBoardLogger, WandbLogger, MLFlowLogger)
    return [logger for logger in trainer.loggers if isinstance(logger, kinds)] if trainer.is_global_zero else []


def show_scalars(trainer: L.Trainer, figures: Mapping[str, float], step: int) -> None:
    """Adds points to curves. metrics.csv gets none: it is the same whatever of a run is looked at.

    Args:
        step: the outer step that they belong to, counted from 0; a run that goes on drops those that it will take again.
    """
    for logger in trainer.loggers:
        if not isinstance(logger, MetricsCsv):
            logger.log_metrics(dict(figures), step)


def show_figure(trainer: L.Trainer, tag: str, figure: Figure, step: int) -> bytes:
    """Shows a picture of an outer step, beside those of earlier ones.

    Returns:
        the picture as a PNG file, so that nothing is drawn twice.
    """
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    image = Image.open(drawn).convert("RGB")
    for logger in boards(trainer):
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(tag, np.asarray(image), step, dataformats="HWC")
        elif isinstance(logger, WandbLogger):
            logger.log_image(tag, [image], step)
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_image(logger.run_id, image, f"{tag}/{step}.png")
    return drawn.getvalue()


def show_text(trainer: L.Trainer, tag: str, markdown: str, step: int) -> None:
    """Shows a text, on TensorBoard alone: the others have a place for configs (`show_config`)."""
    for logger in boards(trainer):
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text(tag, markdown, step)
