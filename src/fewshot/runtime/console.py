"""Lines about a run's course: always in ``train.log``, and on a console that shows no progress bar."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import lightning as L

log = logging.getLogger(__name__)


class Console(logging.Filter):
    """Keeps from the console what stands there already, drawn by the progress bar or the table of results."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(record, "shown", False)


def log_progress(trainer: L.Trainer, message: str) -> None:
    """Logs one line of a run's course, once for all processes."""
    if trainer.is_global_zero:
        bar = trainer.progress_bar_callback
        log.info(message, extra={"shown": getattr(bar, "is_enabled", False)})


def log_to_file(message: str) -> None:
    """Logs a line in ``train.log`` alone."""
    log.info(message, extra={"shown": True})
