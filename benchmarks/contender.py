"""One contender in one setting, in a process of its own: prints seconds of each step and memory as JSON on its last line."""

import json
import sys
from importlib import import_module

from benchmarks.settings import EVERY
from benchmarks.stopwatch import Stopwatch


def main(name: str, setting: str, steps: str) -> None:
    """Runs it."""
    stopwatch = Stopwatch()
    import_module(f"benchmarks.contenders.{name}").run(EVERY[setting], int(steps), stopwatch)
    print(json.dumps({"seconds": stopwatch.seconds, "memory": stopwatch.memory}))


if __name__ == "__main__":
    main(*sys.argv[1:])
