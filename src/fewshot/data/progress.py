"""How far a long computation over a dataset is: a bar on a terminal, a line every half minute elsewhere."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic

log = logging.getLogger(__name__)

SECONDS = 30
"""Between two lines where there is no terminal."""
BESIDE = 22
"""Columns of the shortest bar, of the time left, and of the spaces between."""


@contextmanager
def counted(what: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Shows how many of `total` are done, in as many columns as there are; the bar stays, also where there is no terminal.

    Args:
        what: is done, and to what.
        done: before this computation began.

    Yields:
        a function that counts further ones.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        room = bar.console.width - 2 * len(str(total)) - BESIDE
        task = bar.add_task(what if len(what) <= room else f"{what[: room - 1]}…", total=total, completed=done)
        first, begun = done, monotonic()
        shown = begun

        def count(more: int) -> None:
            nonlocal done, shown
            done += more
            bar.advance(task, more)
            now = monotonic()
            if not bar.console.is_terminal and now - shown >= SECONDS and done < total:
                shown = now
                left = (now - begun) / (done - first) * (total - done)
                log.info(f"{what}: {done:,} of {total:,}, {timedelta(seconds=round(left))} left")

        yield count
