"""One job of a sweep: its folder, its frozen config, and the small record of what was tried."""

import csv
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, cast

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from fewshot.errors import UserError
from fewshot.evaluation.results import read_results
from fewshot.files import write_json, written_whole
from fewshot.runtime.config_files import COMPOSED
from fewshot.sweep.identity import job_id
from fewshot.sweep.journal import PRUNED

SCHEMA = 1
RECORD, FROZEN, LOG, RESULTS, METRICS = "job.json", "job.yaml", "job.log", "results.json", "metrics.csv"
POLL = 0.02
"""Seconds between two looks at a lock that another process holds."""
LOG_LINES = 20
"""Of the log, kept in the record of an attempt that failed."""
LOG_BYTES = 20_000
"""Of the log's end, in which these lines are looked for."""
INTERRUPTED = (130, 143, -2, -15)
"""Exit codes of a job that was asked to stop; -2 and -15 where it had not yet begun to listen."""


class State(Enum):
    """Where a job stands; the value is the word that tables show."""

    WAITING = "waiting"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    PRUNED = "pruned"
    COMPLETED = "completed"


@dataclass(frozen=True)
class Job:
    """A folder of a sweep, named by what it runs."""

    folder: Path
    lock: ClassVar[str] = ".job.lock"

    @property
    def name(self) -> str:
        return self.folder.name

    def freeze(self, config: str, overrides: list[str], command: list[str], function: str, group: str) -> None:
        """Writes down what is to be run, unless a process is running it.

        Args:
            config: with Hydra's own node, as YAML.
            overrides: that make this job, of the sweep.
            command: that would run this job by itself.
            function: ``module:function`` that takes the config.
            group: name shared by the jobs that differ by their seed alone.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        record = {"overrides": overrides, "command": command, "function": function, "group": group}
        while not self._frozen(config, record):
            time.sleep(POLL)  # another command is about to write the same

    def _frozen(self, config: str, record: dict[str, Any]) -> bool:
        """Writes config and record unless another process holds the job; false while the record is still to be written."""
        try:
            with self.locked():
                with written_whole(self.folder / FROZEN) as file:
                    file.write(config.encode())
                self._write(record, self.record()["attempts"] if (self.folder / RECORD).is_file() else [])
                return True
        except Timeout:
            return (self.folder / RECORD).is_file()

    def record(self) -> dict[str, Any]:
        """What ``job.json`` holds.

        Raises:
            UserError: it is no such file.
        """
        path = self.folder / RECORD
        try:
            record: Any = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path} cannot be read ({type(error).__name__}); delete its folder to run the job anew") from error
        if not _is_record(record):
            raise UserError(f"{path} is no record of a job (schema {SCHEMA}); delete its folder to run the job anew")
        return dict(record)

    def config(self) -> DictConfig:
        """What it runs, with Hydra's own node."""
        return cast(DictConfig, OmegaConf.load(self.folder / FROZEN))

    def results(self) -> dict[str, Any] | None:
        """The content of ``results.json``; None where there is none that can be read."""
        try:
            return read_results(self.folder / RESULTS)
        except (FileNotFoundError, UserError):
            return None

    def state(self) -> State:
        """Where it stands now, whoever runs it."""
        if self.results() is not None:
            return State.COMPLETED
        if self._is_held():
            return State.RUNNING
        attempts = self.record()["attempts"]
        if not attempts:
            return State.WAITING
        code = attempts[-1].get("exit_code")
        if code == PRUNED:
            return State.PRUNED
        # without an exit code nobody saw it end, and after 0 its results were taken away
        return State.INTERRUPTED if code in (None, 0, *INTERRUPTED) else State.FAILED

    def failures(self) -> int:
        """How many attempts have failed."""
        return sum(attempt.get("exit_code") not in (None, 0, PRUNED, *INTERRUPTED) for attempt in self.record()["attempts"])

    def steps_done(self) -> int:
        """Outer steps, as far as ``metrics.csv`` goes."""
        path = self.folder / METRICS
        if not path.is_file():
            return 0
        with path.open(newline="", encoding="utf-8") as file:
            return max((int(row["step"]) + 1 for row in csv.DictReader(file) if row.get("train/loss")), default=0)

    def log_tail(self) -> list[str]:
        """The last lines of its log."""
        path = self.folder / LOG
        if not path.is_file():
            return []
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            text = file.read().decode(errors="replace")
        return [line.rstrip() for line in text.splitlines() if line.strip()][-LOG_LINES:]

    @contextmanager
    def locked(self, timeout: float = 0) -> Iterator[None]:
        """Keeps other processes from running this job; the operating system frees it when this one dies.

        Args:
            timeout: seconds to wait for one that only looks.

        Raises:
            Timeout: another process runs it.
        """
        with FileLock(self.folder / self.lock).acquire(timeout=timeout, poll_interval=POLL):
            yield

    def begin(self, pid: int) -> None:
        """Notes that a process of this machine attempts it; the caller holds the job."""
        attempt = {"started": _now(), "host": socket.gethostname(), "pid": pid, "first_step": self.steps_done()}
        self._write(record := self.record(), [*record["attempts"], attempt])

    def end(self, exit_code: int) -> None:
        """Notes how the attempt ended, with the last lines of the log where it failed; the caller holds the job."""
        record = self.record()
        *before, attempt = record["attempts"]
        attempt |= {"ended": _now(), "exit_code": exit_code}
        if exit_code not in (0, PRUNED, *INTERRUPTED):
            attempt["log_tail"] = self.log_tail()
        self._write(record, [*before, attempt])

    def _write(self, record: dict[str, Any], attempts: list[dict[str, Any]]) -> None:
        write_json(self.folder / RECORD, {**record, "schema": SCHEMA, "attempts": attempts})

    def _is_held(self) -> bool:
        if not (self.folder / self.lock).is_file():
            return False
        try:
            with self.locked():
                return False
        except Timeout:
            return True
        except OSError:  # a copy that may only be read is run by nobody
            return False


class SingleRun(Job):
    """A run that no sweep has started, so that runs can be put into one table as the jobs of a sweep are."""

    lock = ".lock"

    def record(self) -> dict[str, Any]:
        """What a sweep would have written of it."""
        group = job_id(cast(DictConfig, OmegaConf.load(self.folder / COMPOSED)), without=("seed",))
        return {"overrides": self.overrides(), "group": group, "attempts": []}

    def overrides(self) -> list[str]:
        """Of its command; none where it was not started by one."""
        path = self.folder / ".hydra/overrides.yaml"
        return [str(override) for override in OmegaConf.load(path)] if path.is_file() else []

    def config(self) -> DictConfig:
        cfg = OmegaConf.load(self.folder / COMPOSED)
        hydra = self.folder / ".hydra/hydra.yaml"
        if not hydra.is_file():
            raise UserError(f"{hydra} is missing: the run was not started by train.py; choose another folder")
        return cast(DictConfig, OmegaConf.merge(cfg, OmegaConf.load(hydra)))

    def state(self) -> State:
        if self.results() is not None:
            return State.COMPLETED
        return State.RUNNING if self._is_held() else State.INTERRUPTED


def jobs_in(folder: Path) -> list[Job]:
    """The jobs of a sweep's folder, in the order of their overrides; else the runs of a folder of runs.

    Raises:
        UserError: there are neither.
    """
    jobs = [Job(path.parent) for path in sorted(folder.glob(f"*/{RECORD}"))]
    jobs = jobs or [SingleRun(path.parent) for path in sorted(folder.glob(f"*/{COMPOSED}"))]
    if not jobs:
        raise UserError(f"{folder} holds no jobs of a sweep and no runs; choose logs/train/sweeps/NAME or logs/train/runs")
    return sorted(jobs, key=lambda job: job.record()["overrides"])


def _is_record(record: Any) -> bool:
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        return False
    words = all(isinstance(record.get(key), str) for key in ("function", "group"))
    lists = all(
        isinstance(record.get(key), list) and all(isinstance(word, str) for word in record[key])
        for key in ("overrides", "command")
    )
    attempts = record.get("attempts")
    return words and lists and isinstance(attempts, list) and all(isinstance(attempt, dict) for attempt in attempts)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
