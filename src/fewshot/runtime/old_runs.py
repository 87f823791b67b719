"""Configs of runs that older versions made, as this one would have written them: they can be evaluated and continued."""

from typing import Any

from fewshot.renamed_classes import with_current_names
from fewshot.runtime.config_check import NUMBERS
from fewshot.runtime.config_groups import CONFIGS, ConfigFile

OLD_NUMBERS = "recipe"
"""What the node `NUMBERS` was called."""
CLASS_TASKS = "fewshot.data.parts.class_tasks"
SIZE = ("ways", "shots", "queries")
SENTENCES = ["head.*", "features.conv.*", "features.layers.*"]
"""What a recipe had tasks adapt of every network for sentences, when patterns might name nothing."""
OF_SENTENCES = {
    "WordConv": ["head.*", "features.conv.*"],
    "WordGRU": ["head.*", "features.layers.*"],
    "WordTransformer": ["head.*", "features.layers.*"],
}
"""What that named of each; of others, the head alone."""
ADDED: dict[str, Any] = {
    "name": None,
    "tags": [],
    "calibration_tasks": 100,
    "init_from": None,
    "init_part": "all",
    "allow_seen_classes": False,
}
"""Keys that older runs lack, with what these did."""


def renewed(saved: dict[str, Any]) -> dict[str, Any]:
    """A run's config, composed or resolved, with the names and keys that there are now."""
    config: dict[str, Any] = {**ADDED, **with_current_names(saved)}
    if "objective" not in config:
        config["objective"] = ConfigFile(CONFIGS / "objective/classification.yaml", "objective").content
    if OLD_NUMBERS in config:
        config = _referring(config, f"${{{OLD_NUMBERS}.", f"${{{NUMBERS}.")
        config[NUMBERS] = config.pop(OLD_NUMBERS)
    if "val" not in config["data"]:
        config["data"] = _with_parts(config["data"])
    config["data"] = _with_replacement(config["data"])
    backbone = str((config["model"].get("backbone") or {}).get("_target_")).rpartition(".")[2]
    inner = (config[node].get("inner") for node in (NUMBERS, "model") if node in config)
    for one in inner:
        if one and one.get("adapt") == SENTENCES:
            one["adapt"] = OF_SENTENCES.get(backbone, SENTENCES[:1])
    return config


def _with_replacement(data: dict[str, Any]) -> dict[str, Any]:
    """The node ``data`` with a key that validation and test tasks of classes have since."""
    key = {"replacement": "${data.eval.replacement}"}
    parts = {part: key | data[part] for part in ("val", "test") if data[part].get("_target_") == CLASS_TASKS}
    return {**data, **parts, "eval": {"replacement": True, **data["eval"]}} if parts else data


def _referring(node: Any, old: str, new: str) -> Any:
    if isinstance(node, dict):
        return {key: _referring(value, old, new) for key, value in node.items()}
    if isinstance(node, list):
        return [_referring(value, old, new) for value in node]
    return node.replace(old, new) if isinstance(node, str) else node


def _with_parts(data: dict[str, Any]) -> dict[str, Any]:
    """The node ``data`` of a run from when all parts had one source, and tasks were classes of one published split."""
    now, tasks = ConfigFile(CONFIGS / "data/_episodes.yaml", "data").content, dict(data["eval"])
    tasks.pop("_target_", None)
    within = "alphabet" if tasks.pop("within_group", False) else None
    training = {key: (data.get("train") or {}).get(key, data[key]) for key in SIZE}
    parts = {part: now[part] for part in ("val", "test")}
    split = ConfigFile(CONFIGS / "data/split/published.yaml", "data/split").content
    return {
        **{key: value for key, value in now.items() if key != "defaults"},
        **data,
        "split": split,
        "train": {**now["train"], **training},
        "eval": {**now["eval"], **tasks, "within": within},
        **parts,
    }
