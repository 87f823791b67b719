"""A page in the browser that learns classes from a few pictures or sentences: ``python demo.py run=DIR port=8000``."""

import sys

try:
    from fewshot.runtime.cli import run
except ModuleNotFoundError as missing:
    print(f"error: {missing}; run `make setup`, then `.venv/bin/python demo.py`", file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    run("demo", "fewshot.predict.demo:demo")
