"""The protocol card: all that a figure depends on, in three lines, and in which fields runs differ."""

from collections.abc import Mapping, Sequence
from typing import Any

from fewshot.evaluation.intervals import CI_METHOD
from fewshot.evaluation.results import deciding_score
from fewshot.evaluation.scores import score
from fewshot.evaluation.table import size_text, task_text, tasks_text

DATA = ("dataset", "other sources", "split", "split hash", "kept apart")
TASKS = ("part", "ways", "shots", "queries", "within", "tasks", "drawn", "reuse", "interval")
MODEL = (
    *("model", "backbone", "batch norm", "adaptation steps", "training", "seed", "chosen on validation", "ensemble", "control"),
)
FIELDS = (*DATA, *TASKS, *MODEL)
"""Of a card, in the order of its lines."""
POPULATION = ("dataset", "split", "split hash", "part", "ways", "shots", "queries", "within")
"""Fields that say which tasks there are, of which a run is tested on some."""
UNKNOWN = "unknown"
"""What older results do not say."""
DIGITS = 12
"""Of a hash."""


def card(results: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a card in words, from the content of a ``results.json`` of any schema.

    What an older file does not say is "unknown"; what there is none of is "none".
    """
    protocol, part = results["protocol"], str(results["protocol"].get("split", "test"))
    train, count = protocol["train"], protocol.get(f"{part}_tasks")
    words = {
        "dataset": str(protocol.get("data", UNKNOWN)),
        "other sources": _other_sources(protocol),
        "split": _rule((protocol.get("split_rules") or {}).get(part) or protocol.get("split_rule")),
        "split hash": ((protocol.get("splits_sha256") or {}).get(part) or UNKNOWN)[:DIGITS],
        "kept apart": _apart(protocol),
        "part": part,
        **{key: size_text(protocol.get(key, UNKNOWN)) for key in ("ways", "shots", "queries")},
        "within": _within(protocol),
        "tasks": UNKNOWN if count is None else f"{count:,}",
        "drawn": _drawn(protocol),
        "reuse": UNKNOWN if (times := reuse(protocol)) is None else f"{times:.2g} times",
        "interval": (results.get("test") or {}).get("ci_method", CI_METHOD),
        "model": str(protocol.get("model", UNKNOWN)),
        "backbone": str(protocol.get("backbone", UNKNOWN)),
        "batch norm": str(protocol.get("batch_norm", UNKNOWN)),
        "adaptation steps": str(protocol.get("eval_steps", UNKNOWN)),
        "training": _training(train),
        "seed": str(protocol.get("seed", UNKNOWN)),
        "chosen on validation": chosen_on_validation(results) or "nothing",
        "ensemble": f"{kept} checkpoints" if (kept := protocol.get("ensemble")) else "none",
        "control": str(protocol.get("control") or "none"),
    }
    return {field: words[field] for field in FIELDS}


def card_lines(results: Mapping[str, Any]) -> list[str]:
    """The card in three lines: the data, the tasks, the model."""
    words = card(results)
    protocol = results["protocol"]
    size = f"{task_text(protocol)}, {words['queries']} queries" + ("" if protocol.get("ways") == 1 else " a class")
    count = protocol.get(f"{words['part']}_tasks")
    measured = f"{UNKNOWN} number of tasks" if count is None else tasks_text(count)
    others = "" if words["other sources"] == "none" else f" ({words['other sources']})"
    data = f"{words['dataset']}{others} · split {words['split']}, sha256 {words['split hash']} · {words['kept apart']}"
    drawn = f"{measured} of the {words['part']} part, {words['drawn']}, rows reused {words['reuse']}"
    model = [
        f"{words['model']}, {words['backbone']}",
        f"batch norm {words['batch norm']}",
        f"{words['adaptation steps']} adaptation steps",
        f"training: {words['training']}",
        f"seed {words['seed']}",
        f"chosen on validation: {words['chosen on validation']}",
        *(f"{field}: {words[field]}" for field in ("ensemble", "control") if words[field] != "none"),
    ]
    return [f"data   {data}", f"tasks  {size} · {drawn} · {words['interval']}", f"model  {' · '.join(model)}"]


def card_differences(several: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The fields in which runs differ, each with its words for every run.

    Args:
        several: the contents of their ``results.json``.
    """
    cards = [card(results) for results in several]
    found = {field: [each[field] for each in cards] for field in FIELDS}
    return {field: words for field, words in found.items() if len(set(words)) > 1}


def reuse(protocol: Mapping[str, Any]) -> float | None:
    """How often a row of the split is drawn on average; None where that is not known, or tasks are computed.

    Tasks x ways x (shots + queries) / rows of the split; of sizes that are drawn, their mean.
    """
    part = protocol.get("split", "test")
    rows, count = (protocol.get("splits_rows") or {}).get(part), protocol.get(f"{part}_tasks")
    sizes = [_mean_size(protocol.get(key)) for key in ("ways", "shots", "queries")]
    if not rows or count is None or None in sizes:
        return None
    ways, shots, queries = (size or 0.0 for size in sizes)
    return float(count * ways * (shots + queries) / rows)


def _mean_size(size: Any) -> float | None:
    """Of a number or a range; None of one that goes by what classes have."""
    if isinstance(size, list | tuple):
        return float(size[0] + size[-1]) / 2
    return float(size) if isinstance(size, int | float) else None


def _other_sources(protocol: Mapping[str, Any]) -> str:
    """Of the parts that do not come from the dataset that is tested."""
    sources = protocol.get("sources") or {}
    return ", ".join(f"{part} {source}" for part, source in sources.items() if source != protocol.get("data")) or "none"


def _rule(rule: Mapping[str, Any] | None) -> str:
    """A split rule with its settings."""
    if not rule:
        return UNKNOWN
    settings = ", ".join(f"{key} {value}" for key, value in rule.items() if key not in ("rule", "folds", "fold"))
    fold = f" fold {rule['fold']} of {rule['folds']}" if "fold" in rule else ""
    return f"{rule['rule']}{fold}" + (f" ({settings})" if settings else "")


def _apart(protocol: Mapping[str, Any]) -> str:
    """What no two parts share, and what the two sides of a task do not share."""
    part = protocol.get("split", "test")
    rule = (protocol.get("split_rules") or {}).get(part) or protocol.get("split_rule") or {}
    seen = (protocol.get("seen_classes") or {}).get(part, 0)
    unit = rule.get("by", "user" if rule.get("rule") == "cold_start" else "class")
    parts = f"{seen} of its classes were trained on" if seen else f"no {unit} in two parts"
    return parts + (f", no {protocol['apart']} on both sides of a task" if protocol.get("apart") else "")


def _within(protocol: Mapping[str, Any]) -> str:
    """The columns of classes that a task's classes share a value of."""
    columns = protocol.get("within") or ("groups" if protocol.get("within_group") else "none")
    return columns if isinstance(columns, str) else ", ".join(columns)


def _drawn(protocol: Mapping[str, Any]) -> str:
    replacement = protocol.get("replacement", None if protocol.get("ways") == 1 else True)
    if replacement is None:
        return "computed" if "replacement" in protocol else UNKNOWN
    within = _within(protocol)
    of = "" if within == "none" else f" within {within}"
    return f"with{'' if replacement else 'out'} replacement{of}, seed {protocol.get('eval_seed', UNKNOWN)}"


def _training(train: Mapping[str, Any]) -> str:
    """The budget: outer steps, tasks in one, and their size."""
    if not train.get("steps"):
        return "no outer step"
    of = f" of {tasks_text(train['meta_batch_size'])}" if "meta_batch_size" in train else ""
    size = f", {task_text(train)}, {train.get('queries')} queries" if {"ways", "shots"} <= train.keys() else ""
    return f"{train['steps']:,} outer steps{of}{size}"


def chosen_on_validation(results: Mapping[str, Any]) -> str | None:
    """What was chosen by figures of the validation part; None where nothing was."""
    protocol = results["protocol"]
    if not protocol["train"].get("steps") or protocol["train"].get("checkpoint", "best") != "best":
        return None
    return f"checkpoint, by {score(deciding_score(dict(results))).label}"
