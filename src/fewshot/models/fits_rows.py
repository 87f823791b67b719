"""Models that learn from the training part as a whole, not from tasks alone."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from fewshot.tasks.batch import RowBlock


class FitsRows(ABC):
    """What a `MetaLearner` is too, if its training begins with all rows of the training part, before any outer step."""

    @abstractmethod
    def fit_rows(self, rows: Iterable[RowBlock]) -> None:
        """Learns from all rows, some at a time."""
