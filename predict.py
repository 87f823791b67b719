"""Classifies files by a trained run and a few examples: ``python predict.py run=DIR support=FOLDER query=FOLDER``."""

import sys

try:
    from fewshot.runtime.cli import run
except ModuleNotFoundError as missing:
    print(f"error: {missing}; run `make setup`, then `.venv/bin/python predict.py`", file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    run("predict", "fewshot.predict.command:predict")
