"""Real processes that start in milliseconds: forked from this one, which has imported everything."""

import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hydra.core.global_hydra import GlobalHydra

from fewshot.sweep import local, one_job
from fewshot.sweep.job import LOG, Job
from tests.entry import QUICK, main


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
    signal_in: tuple[str, int] | None = None,
    signum: int = signal.SIGKILL,
    before: Callable[[], object] | None = None,
) -> Forked:
    """Runs ``python SCRIPT ARGUMENTS`` in a forked process, which may signal itself on the n-th call of ``module:function``."""
    _import_everything()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Forked(pid, output)
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if before is not None:
            before()
        if signal_in is not None:
            _arm(*signal_in, signum)
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


@cache
def _import_everything() -> None:
    """What a run imports on its way is imported once, and not by each process that is forked from this one."""
    with TemporaryDirectory() as folder:
        main("train.py", *QUICK, "trainer.max_steps=1", f"hydra.run.dir={folder}/run", f"paths.cache_dir={folder}")


class ForkedJob:
    """What `fewshot.sweep.local.start_process` returns, with the job's process forked instead of started anew.

    Args:
        job: that it runs.
        environment: variables beside this process's.
    """

    def __init__(self, job: Job, environment: dict[str, str]) -> None:
        read, write = os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            self._run(job, environment, read)
        os.close(read)
        self.stdin = os.fdopen(write, "wb")

    def poll(self) -> int | None:
        """The exit code, once it has ended; negative for a signal."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self) -> None:
        """Waits until it has ended."""
        while self.poll() is None:
            time.sleep(0.005)

    def send_signal(self, signum: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def _run(self, job: Job, environment: dict[str, str], stdin: int) -> None:
        code = 1
        try:
            os.setsid()
            os.environ.update(environment)
            for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                signal.signal(signum, signal.SIG_DFL)
            log = os.open(job.folder / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            for there, here in ((stdin, 0), (log, 1), (log, 2)):
                os.dup2(there, here)
            os.closerange(3, 1024)  # the pipes of other jobs, whose ends say whether this process lives
            sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
            GlobalHydra.instance().clear()
            one_job.stop_with_parent()
            code = one_job.run(job.folder)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)


@pytest.fixture
def forked_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs of sweeps start in milliseconds."""
    monkeypatch.setattr(local, "start_process", ForkedJob)


def _arm(where: str, calls: int, signum: int) -> None:
    """Makes the n-th call of a function send this process a signal; a writing function is killed with half its work done."""
    module, _, path = where.partition(":")
    *owners, name = path.split(".")
    owner = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    original, left = getattr(owner, name), [calls]

    def signalling(*args: object, **kwargs: object) -> object:
        left[0] -= 1
        if left[0] == 0:
            if name == "save":
                args[1].write(b"half a checkpoint")  # type: ignore[attr-defined,index]
                args[1].flush()  # type: ignore[attr-defined,index]
            os.kill(os.getpid(), signum)
        return original(*args, **kwargs)

    setattr(owner, name, signalling)
