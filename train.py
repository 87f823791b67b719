"""Trains a few-shot learner and tests it: ``python train.py experiment=omniglot_5w1s``; all keys with ``--help``."""

from fewshot.runtime.cli import run

if __name__ == "__main__":
    run("train", "fewshot.runtime.train:train")
