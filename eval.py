"""Evaluates a finished run on its test tasks, or on others: ``python eval.py run=logs/train/runs/RUN data.shots=5``."""

import sys

from fewshot.runtime.cli import run
from fewshot.runtime.saved import EVAL_CONFIG, offer_saved_config

if __name__ == "__main__":
    run(EVAL_CONFIG, "fewshot.runtime.evaluate:evaluate", before=lambda: offer_saved_config(sys.argv[1:]))
