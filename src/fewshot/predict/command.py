"""The command ``predict.py``: a run, a folder of examples, files to classify; a csv file and a picture come out."""

import csv
import io
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from rich.progress import track

from fewshot.errors import UserError, check_int
from fewshot.files import written_whole
from fewshot.predict.contact_sheet import write_sheet
from fewshot.predict.examples import read_queries, read_support
from fewshot.predict.learner import FewShotLearner
from fewshot.predict.leave_one_out import leave_one_out

log = logging.getLogger(__name__)

AT_ONCE = 256
"""Queries that are read and answered together."""
COLUMNS = ("filename", "label", "prob", "label_2", "prob_2", "known", "score")


def predict(cfg: DictConfig) -> None:
    """Classifies queries; says first what may be expected. Nothing is written before all is known.

    Raises:
        UserError: the run, the examples or the queries are not as they must be.
    """
    if cfg.shots is not None:
        check_int("shots", cfg.shots, least=1)
    support = read_support(cfg.support, cfg.shots)
    queries = read_queries(cfg.query) if cfg.query is not None else []
    learner = FewShotLearner.from_run(
        cfg.run, cfg.checkpoint, transductive=cfg.transductive, device=cfg.device, trust=tuple(cfg.trust)
    )
    if learner.objective != "classification":
        raise UserError(f"run={cfg.run} predicts values, and folders have classes; use fewshot.FewShotLearner in Python")
    learner.fit(support.items, support.labels)
    sizes = [support.labels.count(name) for name in learner.classes_]
    skipped = f"; {support.skipped} files that are no images skipped" if support.skipped else ""
    each = str(min(sizes)) if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
    log.info(f"Support set: {len(sizes)} classes, {each} examples of each{skipped}")
    if cfg.leave_one_out:
        log.info(_expected(learner))
    if not queries:
        return
    threshold = _threshold(learner, cfg)
    rows: list[list[Any]] = []
    shown: list[Any] = []
    at_once = len(queries) if cfg.transductive else AT_ONCE
    parts = [queries[start : start + at_once] for start in range(0, len(queries), at_once)]
    for part in track(parts, "Predicting", disable=len(parts) == 1 or not sys.stdout.isatty(), transient=True):
        pixels = learner.rows(part)
        found = learner.say(pixels)
        for item, probabilities, number in zip(part, found.probabilities, range(len(part)), strict=True):
            first, second = np.argsort(-probabilities, kind="stable")[:2]
            score = found.scores[threshold[0] if threshold else "probability"][number]
            known = bool(score >= threshold[1]) if threshold else None
            rows.append([
                str(item), learner.classes_[first], f"{probabilities[first]:.6f}", learner.classes_[second],
                f"{probabilities[second]:.6f}", "" if known is None else str(known).lower(), f"{score:.6g}",
            ])  # fmt: skip
            shown.append((pixels[number], found.nearest[number], str(learner.classes_[first]), probabilities[first], known))
    out = Path(cfg.out).expanduser()
    out.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([COLUMNS, *rows])
    with written_whole(out) as file:
        file.write(text.getvalue().encode())
    log.info(f"{len(rows):,} predictions in {out}")
    if cfg.sheet and learner.takes_images:
        examples = learner.rows(support.items).numpy()
        pixel, near, labels, confidence, known_ones = zip(*shown[:10_000], strict=True)
        sheet = out.with_suffix(".png")
        write_sheet(sheet, np.stack(pixel), examples[list(near)], labels, confidence, known_ones)
        log.info(f"Pictures in {sheet}")


def _expected(learner: FewShotLearner) -> str:
    if learner.answers_together:
        return "No leave-one-out estimate: answers depend on the queries that are given together (transductive=true)"
    estimate = leave_one_out(*learner.support)
    if estimate is None:
        return "No leave-one-out estimate: no class has two examples"
    return f"Expect {estimate}"


def _threshold(learner: FewShotLearner, cfg: DictConfig) -> tuple[str, float] | None:
    """The score that tells unknown classes and its threshold; None, said aloud, where the run has none."""
    if cfg.score is None and not learner.has_thresholds:
        log.info("known stays empty: the run has no threshold for unknown classes (calibration.json); score is the probability")
        return None
    return learner.threshold(cfg.false_alarms, cfg.score)
