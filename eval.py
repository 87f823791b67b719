"""Evaluates a finished run on its test tasks, or on others: ``python eval.py run=logs/train/runs/RUN data.shots=5``."""

import sys

try:
    from fewshot.runtime.cli import run
    from fewshot.runtime.eval_config import offer_saved_config
except ModuleNotFoundError as missing:
    print(f"error: {missing}; run `make setup`, then `.venv/bin/python eval.py`", file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    run("eval", "fewshot.runtime.evaluate:evaluate", before=lambda: offer_saved_config(sys.argv[1:]))
