"""Tasks with queries of classes that they do not have, and how well a model tells these, for ``results.json``."""

from dataclasses import replace

import numpy as np
import torch

from fewshot.data.datamodule import EpisodicDataModule
from fewshot.data.meta_batches import DrawnTasks
from fewshot.data.parts import Part
from fewshot.errors import UserError
from fewshot.evaluation.intervals import mean_interval
from fewshot.models.base import MetaLearner
from fewshot.predict.unknown import SCORES, auroc, fpr95, known_scores
from fewshot.tasks.batch import TaskBatch, TaskRows
from fewshot.tasks.class_sampler import ClassSampler
from fewshot.tasks.streams import stream_key, uniforms
from fewshot.tasks.unknown import beside_support, draw_unknown, require_classes


def require_unknown_classes(datamodule: EpisodicDataModule, part: str, ways: int) -> None:
    """Refuses `ways` unknown classes of each task before anything is trained, where a part does not have them.

    Raises:
        UserError: its tasks have no classes, or take too many of its own.
    """
    of_part = datamodule.parts[part]
    if not ways:
        return
    if not isinstance(of_part, Part) or not isinstance(of_part.sampler, ClassSampler):
        raise UserError(f"data.eval.unknown_ways={ways} but the {part} tasks have no classes; set it to 0")
    if of_part.unknown is None:
        classes = datamodule.classes[part]
        require_classes(classes, min(of_part.sampler.most_ways, classes), ways)


def with_unknown(datamodule: EpisodicDataModule, part: str, rows: TaskRows, ways: int) -> tuple[TaskBatch, int]:
    """Tasks with their content, queries of `ways` other classes behind their own; and the number of their own queries.

    Labels of unknown queries are 0 and mean nothing.
    """
    content, own = datamodule.prepared[part], 0 if rows.query is None else rows.query.shape[1]
    if ways and part in datamodule.unknown:
        return _with_rows_of_no_class(datamodule, part, rows, ways), own
    if ways:
        of_part = datamodule.parts[part]
        unknown = draw_unknown(content.table, rows, ways, (of_part.name, part, of_part.seed), of_part.apart)
        query = torch.cat([rows.query, unknown], dim=1) if rows.query is not None else unknown
        labels = None if rows.query_y is None else torch.cat([rows.query_y, torch.zeros_like(unknown)], dim=1)
        rows = replace(rows, query=query, query_y=labels)
    return content.gather(rows), own


def _with_rows_of_no_class(datamodule: EpisodicDataModule, part: str, rows: TaskRows, ways: int) -> TaskBatch:
    """Of the part's own source of them, as many as `ways` classes have queries, or all that there are and may be asked for."""
    content, unknown, of_part = datamodule.prepared[part], datamodule.unknown[part], datamodule.parts[part]
    batch = content.gather(rows)
    key = stream_key("no class", of_part.name, part, of_part.seed)
    orders = uniforms(key, rows.index.tolist(), len(unknown.table)).argsort(axis=1)
    free = [~beside_support(content.table, unknown.table, task, of_part.apart) for task in rows]
    count = ways * batch.query_x.shape[1] // batch.ways
    chosen = torch.from_numpy(np.stack([order[of_task[order]][:count] for order, of_task in zip(orders, free, strict=True)]))
    none = chosen[:, :0]
    found = unknown.gather(replace(rows, support=none, support_y=none, query=chosen, query_y=torch.zeros_like(chosen)))
    query, labels = torch.cat([batch.query_x, found.query_x], dim=1), torch.cat([batch.query_y, found.query_y], dim=1)
    return replace(batch, query_x=query, query_y=labels)


def unknown_metrics(datamodule: EpisodicDataModule, model: MetaLearner, device: torch.device, ways: int) -> dict[str, float]:
    """AUROC and FPR at 95 % TPR of each score on the test tasks, which are open, named as in ``results.json``.

    A task is evaluated once more, its queries together with those of `ways` other classes; its accuracy is that of before.

    Args:
        device: that computes.
        ways: 0 measures nothing.
    """
    if not ways:
        return {}
    tasks, model = datamodule.tasks_of("test"), model.to(device)
    if not isinstance(tasks, DrawnTasks):
        raise TypeError("computed test tasks have no other classes (`require_unknown_classes`)")
    found: dict[str, list[torch.Tensor]] = {}
    for index in range(datamodule.tasks["test"]):
        (rows,) = tasks.rows([index])
        batch, own = with_unknown(datamodule, "test", rows, ways)
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
                f"test/unknown_{measure}_{name}": interval.mean,
                f"test/unknown_{measure}_{name}_ci95": interval.ci95,
            }
    return metrics
