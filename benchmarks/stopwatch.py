"""Times steps, and how far memory rises above what was there before the first."""

import time
from pathlib import Path

import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
"""Where all contenders compute."""


class Stopwatch:
    """Attributes: `seconds` of each step so far; `memory` in bytes before the first step and at most since then.

    On a GPU, memory is what PyTorch's tensors take there; on a CPU, what is resident.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._before = 0
        self._since = 0.0

    def start(self) -> None:
        """Everything is ready for the first step."""
        if DEVICE.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # forgets the highest mark so far
            self._before = _status("VmRSS")
        self._since = self._now()

    def lap(self) -> None:
        """A step has ended."""
        now = self._now()
        self.seconds.append(now - self._since)
        self._since = now

    @property
    def memory(self) -> dict[str, int]:
        """Bytes."""
        peak = torch.cuda.max_memory_allocated() if DEVICE.type == "cuda" else _status("VmHWM")
        return {"before": self._before, "peak": peak}

    @staticmethod
    def _now() -> float:
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def _status(key: str) -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("ascii").splitlines())
    return int(lines[key].split()[0]) * 1024
