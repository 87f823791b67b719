"""What it costs to show a run: the share of the CPU time of a training that its callbacks for seeing take.

``python -m benchmarks.seeing [OVERRIDE ...]`` trains the default experiment. Processor time, for it does not depend on what
else the machine is doing.
"""

import sys
import tempfile
import time
from collections import Counter
from functools import wraps
from pathlib import Path

from hydra import compose, initialize_config_dir
from lightning.pytorch.callbacks import Callback

from fewshot.runtime import train as training
from fewshot.runtime.build import build_trainer

ROOT = Path(__file__).parents[1]
HOOKS = ("on_train_batch_start", "on_before_optimizer_step", "on_train_batch_end", "on_validation_end")


def timed(callback: Callback, hook: str, seconds: Counter[str]) -> None:
    """Makes a callback's hook add up what it takes."""
    original = getattr(callback, hook)

    @wraps(original)
    def measured(*args: object, **kwargs: object) -> None:
        start = time.process_time()
        original(*args, **kwargs)
        seconds[type(callback).__name__] += time.process_time() - start

    setattr(callback, hook, measured)


def main(overrides: list[str]) -> None:
    """Trains, and prints the shares."""
    seconds: Counter[str] = Counter()

    def watched(*args, **kwargs):  # type: ignore[no-untyped-def]
        trainer = build_trainer(*args, **kwargs)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if ".plots." in type(callback).__module__:
                for hook in HOOKS:
                    timed(callback, hook, seconds)
        fit = trainer.fit

        def whole(*args: object, **kwargs: object) -> None:
            start = time.process_time()
            fit(*args, **kwargs)
            seconds["all"] = time.process_time() - start

        trainer.fit = whole
        return trainer

    training.build_trainer = watched
    with tempfile.TemporaryDirectory() as folder:
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            cfg = compose("train", [f"paths.output_dir={folder}", "seed=0", "test=false", *overrides])
        training.train(cfg)
    total = seconds.pop("all")
    for name, spent in seconds.most_common():
        print(f"{name:20} {spent:6.2f} s  {100 * spent / total:5.2f} %")
    print(f"{'together':20} {sum(seconds.values()):6.2f} s  {100 * sum(seconds.values()) / total:5.2f} % of {total:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
