"""Trains a few-shot learner and tests it: ``python train.py experiment=omniglot_5w1s``; all keys with ``--help``."""

import sys

try:
    from fewshot.runtime.cli import run
except ModuleNotFoundError as missing:
    print(f"error: {missing}; run `make setup`, then `.venv/bin/python train.py`", file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    run("train", "fewshot.runtime.train:train")
