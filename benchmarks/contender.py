"""One contender at one kind of work, in a process of its own: prints seconds and memory as JSON on its last line."""

import json
import sys
from importlib import import_module

from benchmarks.settings import EVERY
from benchmarks.stopwatch import Stopwatch


def main(name: str, work: str, setting: str, count: str) -> None:
    """Has the contender do it."""
    stopwatch = Stopwatch()
    getattr(import_module(f"benchmarks.contenders.{name}"), work)(EVERY[setting], int(count), stopwatch)
    print(json.dumps({"seconds": stopwatch.seconds, "memory": stopwatch.memory}))


if __name__ == "__main__":
    main(*sys.argv[1:])
