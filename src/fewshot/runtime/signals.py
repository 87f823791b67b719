"""Stopping on a signal: the step in hand is finished, a checkpoint written, and the process ends with its exit code."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 143}
"""Of each signal that asks to stop; Slurm sends SIGUSR1 before its time is up."""


class Stopped(BaseException):
    """A signal asked this run to stop.

    Not an Exception: nothing that handles errors should take it for one.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_code = EXIT_CODES[signal.Signals(signum)]


class StopRequest:
    """Listens for signals.

    Attributes:
        signum: the first signal that came; None before.
        deferred: while an outer step is under way, a signal is only noted; at any other time it raises `Stopped` at once.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.deferred = False

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        again = self.signum is not None
        self.signum = self.signum or signum
        if not self.deferred or again:
            raise Stopped(signum)

    def listen(self) -> None:
        """Handles the signals from now on."""
        for signum in EXIT_CODES:
            signal.signal(signum, self._receive)

    def permit(self) -> None:
        """Lets a signal end the run at once again, and one that came meanwhile too."""
        self.deferred = False
        if self.signum is not None:
            raise Stopped(self.signum)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handles the signals within it, and puts back what handled them before."""
        before = {signum: signal.getsignal(signum) for signum in EXIT_CODES}
        self.listen()
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)
