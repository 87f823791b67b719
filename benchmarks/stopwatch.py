"""Times steps, and how far memory rises above what was there before the first."""

import time
from pathlib import Path


class Stopwatch:
    """Attributes: `seconds` of each step so far; `memory` in bytes, resident before the first step, and at most since then."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._before = 0
        self._since = 0.0

    def start(self) -> None:
        """Everything is ready for the first step."""
        Path("/proc/self/clear_refs").write_text("5")  # forgets the highest mark so far
        self._before = _status("VmRSS")
        self._since = time.perf_counter()

    def lap(self) -> None:
        """A step has ended."""
        now = time.perf_counter()
        self.seconds.append(now - self._since)
        self._since = now

    @property
    def memory(self) -> dict[str, int]:
        """Bytes."""
        return {"before": self._before, "peak": _status("VmHWM")}


def _status(key: str) -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("ascii").splitlines())
    return int(lines[key].split()[0]) * 1024
