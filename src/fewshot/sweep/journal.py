"""The journal of an Optuna study in a sweep's folder: the sweep asks it for trials, and each trial's process reports to it."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.storages import JournalStorage

STUDY = "sweep"
"""The study's name in the journal."""
PRUNED = 4
"""Exit code of a trial that was given up early."""


def journal(folder: Path) -> "JournalStorage":
    """The storage of the study in a sweep's folder; processes and machines may share it."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(folder / "study.journal")))
