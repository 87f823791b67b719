"""Real processes that start in milliseconds: forked from this one, which has imported everything."""

import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.entry import main


@dataclass
class Forked:
    """A script of the project in a process of its own; what it prints goes to `output`."""

    pid: int
    output: Path

    def send(self, signum: int) -> None:
        """Sends a signal, unless it has ended."""
        os.kill(self.pid, signum)

    def wait(self, timeout: float = 120) -> int:
        """The exit code; negative for a signal."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise TimeoutError(f"process {self.pid} did not end: {self.output.read_text()}")


def wait_for(condition: Callable[[], bool], timeout: float = 120) -> None:
    """Until something is so."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def fork(
    script: str,
    *arguments: str,
    output: Path,
    kill_in: tuple[str, int] | None = None,
    before: Callable[[], object] | None = None,
) -> Forked:
    """Runs ``python SCRIPT ARGUMENTS`` in a forked process, which may kill itself on the n-th call of ``module:function``."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Forked(pid, output)
    code = 1
    try:
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_DFL if signum == signal.SIGTERM else signal.default_int_handler)
        if before is not None:
            before()
        if kill_in is not None:
            _arm(*kill_in)
        with output.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            done = main(script, *arguments)
            file.write(done.out + done.err)
            code = done.code
    except BaseException:
        with output.open("a") as file:
            traceback.print_exc(file=file)
    finally:
        os._exit(code)


def _arm(where: str, calls: int) -> None:
    """Makes the n-th call of a function kill this process; a writing function is killed with half its work done."""
    module, _, path = where.partition(":")
    *owners, name = path.split(".")
    owner = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    original, left = getattr(owner, name), [calls]

    def killing(*args: object, **kwargs: object) -> object:
        left[0] -= 1
        if left[0] == 0:
            if name == "save":
                args[1].write(b"half a checkpoint")  # type: ignore[attr-defined,index]
                args[1].flush()  # type: ignore[attr-defined,index]
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(owner, name, killing)
