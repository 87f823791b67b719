"""Scores Omniglot's 20 within-alphabet one-shot runs (Lake et al. 2015): ``python docs/tutorials/omniglot_runs.py RUN FOLDER``.

FOLDER holds ``run01`` to ``run20`` (``all_runs.zip`` of the Omniglot repository), each with ``training/``, ``test/`` and
``class_labels.txt``, whose lines name a test image and the training image of its class.
"""

import sys
from pathlib import Path

from fewshot import FewShotLearner


def score(learner: FewShotLearner, root: Path, run: str) -> float:
    """The share of a run's test drawings that are classified rightly."""
    pairs = [line.split() for line in (root / run / "class_labels.txt").read_text("utf-8").splitlines() if line.strip()]
    tests, classes = [root / test for test, _ in pairs], [training for _, training in pairs]
    support = sorted({*classes})
    return learner.fit([root / path for path in support], support).score(tests, classes)


if __name__ == "__main__":
    learner = FewShotLearner.from_run(sys.argv[1])
    root = Path(sys.argv[2])
    scores = {path.name: score(learner, root, path.name) for path in sorted(root.glob("run*")) if path.is_dir()}
    for run, accuracy in scores.items():
        print(f"{run}  {100 * accuracy:.0f} %")
    print(f"mean   {100 * sum(scores.values()) / len(scores):.1f} % of {len(scores)} runs")
