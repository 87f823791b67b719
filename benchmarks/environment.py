"""The machine that was measured on, and what is installed there."""

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "lightning", "learn2learn", "higher", "torchopt")


def environment() -> dict[str, Any]:
    """Plain values."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    return {
        "processor": cpu.partition(":")[2].strip(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "time": time.strftime("%Y-%m-%d"),
    }
