"""Tasks with queries of classes that they do not have, and what they say of a model in ``results.json``."""

from dataclasses import replace

import torch

from fewshot.data.datamodule import EpisodicDataModule
from fewshot.data.meta_batches import DrawnTasks
from fewshot.errors import UserError
from fewshot.evaluation.intervals import mean_interval
from fewshot.models.base import MetaLearner
from fewshot.predict.unknown import SCORES, auroc, fpr95, known_scores
from fewshot.tasks.batch import TaskBatch, TaskRows
from fewshot.tasks.streams import stream_key, uniforms
from fewshot.tasks.unknown import draw_unknown


def with_unknown(datamodule: EpisodicDataModule, part: str, rows: TaskRows, ways: int) -> tuple[TaskBatch, int]:
    """Tasks with their content, queries of `ways` other classes behind their own; and the number of their own queries.

    Labels of unknown queries are 0 and mean nothing.
    """
    content, own = datamodule.prepared[part], 0 if rows.query is None else rows.query.shape[1]
    if ways and rows.class_id is None:
        raise UserError(f"data.eval.unknown_ways={ways} but these tasks have no classes; set it to 0")
    if ways and part in datamodule.unknown:
        return _with_rows_of_no_class(datamodule, part, rows, ways), own
    if ways:
        stream = (datamodule.source_name(part), part, datamodule.seed_of(part))
        unknown = draw_unknown(content.table, rows, ways, stream)
        query = torch.cat([rows.query, unknown], dim=1) if rows.query is not None else unknown
        labels = None if rows.query_y is None else torch.cat([rows.query_y, torch.zeros_like(unknown)], dim=1)
        rows = replace(rows, query=query, query_y=labels)
    return content.gather(rows), own


def _with_rows_of_no_class(datamodule: EpisodicDataModule, part: str, rows: TaskRows, ways: int) -> TaskBatch:
    """Of the part's own source of them, as many as `ways` classes have queries, or all that there are."""
    batch, unknown = datamodule.prepared[part].gather(rows), datamodule.unknown[part]
    count = min(ways * batch.query_x.shape[1] // batch.ways, len(unknown.table))
    key = stream_key("no class", datamodule.source_name(part), part, datamodule.seed_of(part))
    random = uniforms(key, rows.index.tolist(), len(unknown.table))
    chosen = torch.from_numpy(random.argsort(axis=1)[:, :count])
    none = chosen[:, :0]
    found = unknown.gather(replace(rows, support=none, support_y=none, query=chosen, query_y=torch.zeros_like(chosen)))
    query, labels = torch.cat([batch.query_x, found.query_x], dim=1), torch.cat([batch.query_y, found.query_y], dim=1)
    return replace(batch, query_x=query, query_y=labels)


def unknown_metrics(datamodule: EpisodicDataModule, model: MetaLearner, part: str, ways: int) -> dict[str, float]:
    """AUROC and FPR at 95 % TPR of each score on the tasks of a part that is open, named as in ``results.json``.

    A task is answered once more, its queries together with those of `ways` other classes; its accuracy is that of before.

    Raises:
        UserError: its tasks have no other classes.
    """
    tasks = datamodule.tasks_of(part)
    if not isinstance(tasks, DrawnTasks):
        raise UserError(f"data.eval.unknown_ways={ways} but the {part} tasks are computed; set it to 0")
    found: dict[str, list[torch.Tensor]] = {}
    for index in range(datamodule.tasks[part]):
        (rows,) = tasks.rows([index])
        batch, own = with_unknown(datamodule, part, rows, ways)
        (batch,) = datamodule.scaled([batch.to(model.device)])
        with torch.no_grad():
            outputs = model.evaluate(batch)[:, -1].float()
        for name, values in known_scores(model, batch, outputs).items():
            known, unknown = values[:, :own].float(), values[:, own:].float()
            found.setdefault(f"unknown_auroc_{name}", []).append(auroc(known, unknown))
            found.setdefault(f"unknown_fpr95_{name}", []).append(fpr95(known, unknown))
    metrics: dict[str, float] = {}
    for measure in ("auroc", "fpr95"):
        for name in SCORES:
            interval = mean_interval(torch.cat(found[f"unknown_{measure}_{name}"]).cpu().numpy())
            metrics |= {
                f"{part}/unknown_{measure}_{name}": interval.mean,
                f"{part}/unknown_{measure}_{name}_ci95": interval.ci95,
            }
    return metrics
