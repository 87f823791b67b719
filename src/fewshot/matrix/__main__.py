"""``python -m fewshot.matrix protocol run=DIR``: one checkpoint under every protocol; ``cross_domain``: sources by targets."""

import sys
from pathlib import Path

from fewshot.errors import UserError, suggest
from fewshot.evaluation.results import deciding_score, read_results
from fewshot.runtime.cli import mistakes_explained, tolerate_any_console, unquoted
from fewshot.sweep.job import RESULTS

USAGE = """\
python -m fewshot.matrix protocol run=RUN [split=val] [queries=1,5,15] [steps=0,1,5,10,20] [tasks=600,2000] [out=FOLDER]
    evaluates the checkpoint of a run under every combination, transductive and inductive; other KEY=VALUE as for eval.py
    (launcher=local runs several at a time). Writes matrix.csv, matrix.md and matrix.png into FOLDER, RUN/matrix without it.

python -m fewshot.matrix cross_domain sources=glyphs,omniglot [targets=glyphs,omniglot,quickdraw] [out=FOLDER]
    trains on each source once and tests on all targets, without them on the sources; names are choices of data=. Other
    KEY=VALUE as for train.py; seed=0,1,2 trains as often. Writes the same files into FOLDER, one of logs/matrix without it.
"""


def protocol(arguments: list[str]) -> None:
    """One checkpoint under every protocol."""
    from fewshot.matrix.protocol import evaluate, measured, plan, write

    own, overrides = _taken(arguments, ("run", "split", "queries", "steps", "tasks", "out"))
    if "run" not in own:
        raise UserError("run=??? must name the folder of a finished run, as in run=logs/train/runs/RUN")
    run = Path(unquoted(own["run"])).expanduser()
    asked: dict[str, list[int]] = {key: _numbers(key, own[key]) for key in ("queries", "steps", "tasks") if key in own}
    of = plan(run, own.get("split", "test"), asked)
    folder = Path(unquoted(own["out"])).expanduser() if "out" in own else run / "matrix"
    folder.mkdir(parents=True, exist_ok=True)
    cells = measured(of, evaluate(of, folder.absolute() / "evaluations", overrides))
    print(write(of, cells, deciding_score(read_results(run / RESULTS)), folder))
    print(f"{folder / 'matrix.csv'}, matrix.md, matrix.png")


def cross_domain(arguments: list[str]) -> None:
    """Trained on each source once, tested on all targets."""
    from fewshot.matrix.cross_domain import evaluate, measured, plan, require_fit, train, write

    own, overrides = _taken(arguments, ("sources", "targets", "out"))
    sources, targets = ([name for name in own.get(key, "").strip("[]").split(",") if name] for key in ("sources", "targets"))
    if not sources:
        raise UserError("sources=??? must name datasets to train on, as in sources=glyphs,omniglot")
    folder = Path(unquoted(own["out"])).expanduser().absolute() if "out" in own else None
    of = plan(sources, targets, overrides, folder)
    require_fit(of)
    tests = [(source, evaluate(of, run)) for source, run in train(of)]
    print(write(of, measured(of, tests), tests[0][1][of.targets[0]].score))
    print(f"{of.folder / 'matrix.csv'}, matrix.md, matrix.png")


def _taken(arguments: list[str], keys: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
    """The arguments that are this command's own, and those that are not."""
    pairs = [argument.partition("=") for argument in arguments]
    return {key: value for key, _, value in pairs if key in keys}, ["".join(pair) for pair in pairs if pair[0] not in keys]


def _numbers(key: str, text: str) -> list[int]:
    words = text.strip("[]").split(",")
    least = 0 if key == "steps" else 1
    if not all(word.strip().isdecimal() and int(word) >= least for word in words):
        raise UserError(f"{key}={text} must be whole numbers of at least {least}, as in {key}=5,15")
    return [int(word) for word in words]


COMMANDS = {"protocol": protocol, "cross_domain": cross_domain}

if __name__ == "__main__":
    tolerate_any_console()
    with mistakes_explained("eval"):
        if not sys.argv[1:] or {"-h", "--help"} & set(sys.argv):
            print(USAGE, end="")
        elif sys.argv[1] not in COMMANDS:
            raise UserError(f"{sys.argv[1]} is no matrix{suggest(sys.argv[1], COMMANDS)}")
        else:
            COMMANDS[sys.argv[1]](sys.argv[2:])
