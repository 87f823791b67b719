"""The command ``predict.py``: a run, examples, files or sentences to classify; a csv file and a picture come out."""

import csv
import io
import logging
import sys
from pathlib import Path

import numpy as np
from omegaconf import DictConfig
from rich.progress import track

from fewshot.errors import UserError, check_int
from fewshot.files import written_whole
from fewshot.predict.contact_sheet import SHOWN, write_sheet
from fewshot.predict.examples import Example, check_kind, learn, read_queries, read_support, refuse_overwriting
from fewshot.predict.learner import FewShotLearner
from fewshot.predict.leave_one_out import leave_one_out
from fewshot.predict.predicted import Predicted

log = logging.getLogger(__name__)

AT_ONCE = 256
"""Queries that are read and answered together, or as many as there are examples: these are learned anew for each lot."""
COLUMNS = ("filename", "label", "prob", "label_2", "prob_2", "known", "score")
OF_TEXT = ("text", "nearest")
"""Columns that sentences have too: a picture shows images, and whoever reads a table reads on."""


def predict(cfg: DictConfig) -> None:
    """Classifies queries; says first what may be expected. Nothing is written before all is known.

    Raises:
        UserError: the run, the examples or the queries are not as they must be.
    """
    if cfg.shots is not None:
        check_int("shots", cfg.shots, least=1)
    out, sheet = Path(cfg.out).expanduser(), Path(cfg.out).expanduser().with_suffix(".png") if cfg.sheet else None
    if out.is_dir():
        raise UserError(f"out={out} is a folder; give the name of a csv file")
    if out == sheet:
        raise UserError(f"out={out} has the name of the picture; end it in .csv, or set sheet=false")
    support, skipped = read_support(cfg.support, cfg.shots)
    queries = read_queries(cfg.query) if cfg.query is not None else []
    refuse_overwriting([out, sheet], [cfg.support, cfg.query], [*support, *queries])
    learner = FewShotLearner.from_run(
        cfg.run, cfg.checkpoint, transductive=cfg.transductive, device=cfg.device, trust=tuple(cfg.trust)
    )
    run = learner.predictor.run
    if run.objective != "classification":
        raise UserError(f"run={cfg.run} predicts values, and folders have classes; use fewshot.FewShotLearner in Python")
    check_kind(run, support, "support")
    if queries:
        check_kind(run, queries, "query")
        threshold = _threshold(learner, cfg)
    learn(learner, support)
    sizes = learner.support.y.bincount()
    each = f"{sizes.min()}" if sizes.min() == sizes.max() else f"{sizes.min()} to {sizes.max()}"
    left_out = f"; skipped: {skipped} files or folders that are no images of a class" if skipped else ""
    log.info(f"Support set: {len(sizes)} classes, {each} example{'' if each == '1' else 's'} of each{left_out}")
    if cfg.leave_one_out:
        log.info(_expected(learner))
    if not queries:
        return
    at_once = len(queries) if cfg.transductive else max(AT_ONCE, len(support))
    parts = [[example.item for example in queries[start : start + at_once]] for start in range(0, len(queries), at_once)]
    progress = track(parts, "Predicting", disable=len(parts) == 1 or not sys.stdout.isatty(), transient=True)
    said = Predicted.joined([learner.say(part) for part in progress])
    _write_table(out, learner, support, queries, said, threshold)
    log.info(f"{len(queries):,} prediction{'' if len(queries) == 1 else 's'} in {out}")
    if sheet is not None and run.takes_images:
        pixels = learner.rows([query.item for query in queries[:SHOWN]]).numpy()
        near = learner.rows([support[number].item for number in said.nearest[:SHOWN]]).numpy()
        known = (said.scores[threshold[0]] >= threshold[1]).tolist() if threshold else [None] * len(queries)
        labels = learner.classes_[said.probabilities.argmax(axis=1)]
        write_sheet(sheet, pixels, near, labels, said.probabilities.max(axis=1), known)
        log.info(f"Pictures in {sheet}")


def _write_table(
    out: Path,
    learner: FewShotLearner,
    support: list[Example],
    queries: list[Example],
    said: Predicted,
    threshold: tuple[str, float] | None,
) -> None:
    """Writes a row for each query, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    of_text = isinstance(queries[0].item, str)
    writer.writerow(COLUMNS + OF_TEXT if of_text else COLUMNS)
    scores = said.scores[threshold[0]] if threshold else said.probabilities.max(axis=1)
    for number, (query, probabilities) in enumerate(zip(queries, said.probabilities, strict=True)):
        first, second = np.argsort(-probabilities, kind="stable")[:2]
        writer.writerow([
            query.where, learner.classes_[first], f"{probabilities[first]:.6f}", learner.classes_[second],
            f"{probabilities[second]:.6f}", str(bool(scores[number] >= threshold[1])).lower() if threshold else "",
            f"{scores[number]:.6g}", *((query.item, support[said.nearest[number]].item) if of_text else ()),
        ])  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(out) as file:
        file.write(text.getvalue().encode())


def _expected(learner: FewShotLearner) -> str:
    if learner.predictor.together:
        return "No leave-one-out estimate: answers depend on the queries that are given together (transductive=true)"
    estimate = leave_one_out(learner.predictor, learner.support.x, learner.support.y)
    if estimate is None:
        return "No leave-one-out estimate: no class has two examples that differ"
    return str(estimate)


def _threshold(learner: FewShotLearner, cfg: DictConfig) -> tuple[str, float] | None:
    """The score that tells unknown classes and its threshold; None, said aloud, where the run has none."""
    if cfg.score is None and not learner.predictor.run.has_thresholds:
        log.info("known stays empty: the run has no threshold for unknown classes (calibration.json); score is the probability")
        return None
    return learner.threshold(cfg.false_alarms, cfg.score)
