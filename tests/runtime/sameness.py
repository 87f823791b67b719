"""Whether two runs of a config left the same, times apart."""

import json
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TIMES = {"train/tasks_per_second"}


def what_a_run_left(folder: Path) -> dict[str, object]:
    """Everything that has to be the same, in plain containers."""
    results = json.loads((folder / "results.json").read_text())
    return {
        "metrics.csv": (folder / "metrics.csv").read_text(),
        "test_tasks.csv": (folder / "test_tasks.csv").read_text(),
        "results": {key: results[key] for key in ("schema", "status", "metrics", "test", "protocol")},
        "data": results["provenance"]["data_sha256"],
        "last": state(folder / "checkpoints/last.ckpt"),
        "best": state(folder / "checkpoints/best.ckpt"),
        "curves": curves(folder),
        "final": curves(folder / "final"),
    }


def state(path: Path) -> dict[str, object]:
    """A checkpoint's content without times and places."""
    content = torch.load(path, weights_only=True)
    content["callbacks"].pop("SourceHistory")  # of the source code, not of the run
    callbacks = {
        name.split("{")[0]: {
            key: value if key != "ended_under" else value is not None  # which callbacks are there is not compared
            for key, value in memory.items()
            if "path" not in key and key not in ("dirpath", "seconds", "best_k_models")
        }
        for name, memory in content["callbacks"].items()
    }
    kept = ("global_step", "state_dict", "optimizer_states", "lr_schedulers", "fewshot", "EpisodicDataModule")
    content["fewshot"].pop("max_steps")  # a prolonged run was planned for fewer
    return plain({**{key: content[key] for key in kept}, "callbacks": callbacks})


def plain(node: object) -> object:
    """Tensors as lists of exact numbers."""
    if isinstance(node, torch.Tensor):
        return (str(node.dtype), node.tolist())
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [plain(value) for value in node]
    return node


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """TensorBoard's curves as it shows them."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"] if tag not in TIMES}
