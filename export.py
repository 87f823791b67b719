"""Writes a run's classifier of a few examples, for use elsewhere: ``python export.py run=DIR support=FOLDER out=FILE``."""

import sys

try:
    from fewshot.runtime.cli import run
except ModuleNotFoundError as missing:
    print(f"error: {missing}; run `make setup`, then `.venv/bin/python export.py`", file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    run("export", "fewshot.predict.export:export")
