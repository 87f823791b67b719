"""A run's folder as a predictor reads it: its resolved config and a checkpoint, as plain data; no dataset is needed."""

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml

from fewshot.data.source import ArraySpec, Source
from fewshot.data.text.sentences import TextSource
from fewshot.errors import UserError, suggest
from fewshot.files import write_json
from fewshot.predict.support_set import SupportSet
from fewshot.predict.targets import build, class_of, leave_files
from fewshot.predict.tensor_file import read_tensors, write_tensors
from fewshot.renamed_classes import with_current_names

if TYPE_CHECKING:  # it imports Lightning, which takes seconds
    from fewshot.models.base import MetaLearner

CALIBRATION = "calibration.json"
"""What was fitted on validation tasks (`fewshot.predict.calibration`)."""
SAVED, TENSORS = "learner.json", "learner.safetensors"
"""What `FewShotLearner.save` writes."""
CHECKPOINTS = ("best", "last", "previous")
WEIGHTS = "model."
"""Before the names of a saved model's weights."""
ORDER = "support.order"
"""The tensor of `SupportSet.order`."""
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Run:
    """What a run has left.

    Attributes:
        folder: of the run.
        config: resolved.
        checkpoint: the content of the checkpoint.
        calibration: what was fitted on validation tasks; None where nothing was.
        trust: packages beside this project's whose classes the config may name.
        support: that was saved with it.
    """

    folder: Path
    config: dict[str, Any]
    checkpoint: dict[str, Any]
    calibration: dict[str, Any] | None = None
    trust: tuple[str, ...] = ()
    support: SupportSet | None = None

    @property
    def objective(self) -> str:
        """What its tasks ask for: ``classification`` or ``regression``."""
        node = self.config.get("objective")  # runs of older versions have none
        return str(getattr(class_of(node["_target_"], self.trust), "name", "")) if node else "classification"

    @cached_property
    def source(self) -> Source | None:
        """The dataset that it was trained on, to make inputs as its own are made; None where tasks are computed."""
        data = self.config["data"]
        of_train, *others = ((data.get(part) or {}).get("source") for part in PARTS)
        nodes = [of_train, data.get("source"), *others]  # a part without one has the common one
        node = next((node for node in nodes if node), None)
        source: Source | None = build(node, self.trust) if node else None
        return source

    @property
    def row(self) -> ArraySpec:
        """One input."""
        if self.source is not None:
            return self.source.x
        return ArraySpec(tuple(self.config["data"]["image_shape"]), "float32")

    @property
    def takes_images(self) -> bool:
        """Whether inputs are images."""
        return self.row.dtype == "uint8" and len(self.row.shape) == 3

    @property
    def takes_sentences(self) -> bool:
        """Whether inputs are sentences."""
        return isinstance(self.source, TextSource)

    @property
    def has_thresholds(self) -> bool:
        """Whether there are thresholds for unknown classes."""
        return bool((self.calibration or {}).get("unknown"))

    def threshold(self, false_alarms: float = 0.05, score: str | None = None) -> tuple[str, float]:
        """The name of a score and the least that a known input has of it, from the validation tasks.

        Args:
            false_alarms: share of inputs of known classes that may be called unknown.
            score: None takes the one that told best.

        Raises:
            UserError: there is no such threshold.
        """
        found = (self.calibration or {}).get("unknown")
        if not found:
            raise UserError(
                f"{self.folder} has no thresholds for unknown classes ({CALIBRATION}); train with calibration_tasks=100 and "
                "more validation classes than a task has"
            )
        name = score or found["score"]
        if name not in found["scores"]:
            raise UserError(f"score={name} is unknown{suggest(str(name), found['scores'])}")
        thresholds = found["scores"][name]["thresholds"]
        if str(false_alarms) not in thresholds:
            raise UserError(f"false_alarms={false_alarms} has no threshold; choose one of: {', '.join(thresholds)}")
        return name, float(thresholds[str(false_alarms)])

    def build_model(self, transductive: bool) -> "MetaLearner":
        """The model with the checkpoint's weights.

        Args:
            transductive: keep what makes answers depend on the other queries; else it is replaced.
        """
        from fewshot.models.classifier import classes_of

        node = deepcopy(self.config["model"])
        leave_files(node)
        if not transductive:
            node |= self.inductive
        classes = classes_of(self.checkpoint)
        model: MetaLearner = build(node if classes is None else {**node, "classes": classes}, self.trust)
        model.on_load_checkpoint(self.checkpoint)
        model.load_state_dict(self.checkpoint["state_dict"])
        return model.eval()

    @property
    def inductive(self) -> dict[str, Any]:
        """The keys of ``model`` that have to change for each query to be answered by itself."""
        node = self.config["model"]
        changes: dict[str, Any] = {}
        if node.get("batch_norm") == "transductive":
            # What Relation Networks normalise are pairs of a query and a class: only the training tasks' statistics are left.
            changes["batch_norm"] = "running" if str(node["_target_"]).endswith("RelationNet") else "inductive"
        if str(node["_target_"]).endswith(".TIM") and node.get("transductive", True):
            changes["transductive"] = False
        return changes


def read_run(folder: str | Path, checkpoint: str = "best", trust: Sequence[str] = ()) -> Run:
    """Reads a run's config and checkpoint; runs no code of either.

    Raises:
        UserError: the folder holds no run, or the checkpoint is missing or broken.
    """
    folder = Path(folder).expanduser()
    if checkpoint not in CHECKPOINTS:
        raise UserError(f"checkpoint={checkpoint} is unknown{suggest(checkpoint, CHECKPOINTS)}")
    if (folder / SAVED).is_file():
        return _read_saved(folder, tuple(trust))
    config, content = _read_config(folder), _read_checkpoint(folder, checkpoint)
    return Run(folder, config, content, _read_calibration(folder), tuple(trust))


def save_run(run: Run, folder: Path, support: SupportSet) -> None:
    """Writes a run's config and weights and a support set into a folder that `read_run` reads: tensors and JSON alone.

    Raises:
        UserError: the folder holds something else.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / SAVED).is_file():
        raise UserError(f"{folder} is not empty; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SAVED).unlink(missing_ok=True)  # without it the folder is none
    weights = {f"{WEIGHTS}{name}": value for name, value in run.checkpoint["state_dict"].items()}
    write_tensors(
        folder / TENSORS,
        {**weights, "support.x": support.x, "support.y": support.y, ORDER: torch.from_numpy(support.order)},
        {"format": "pt"},
    )
    checkpoint = {"fewshot": run.checkpoint["fewshot"]}
    content = {"schema": 1, "config": run.config, "checkpoint": checkpoint, "calibration": run.calibration}
    write_json(folder / SAVED, {**content, "classes": [] if support.classes is None else support.classes.tolist()})


def _read_saved(folder: Path, trust: tuple[str, ...]) -> Run:
    try:
        content: Any = json.loads((folder / SAVED).read_text("utf-8"))
        config, fewshot = content["config"], content["checkpoint"]["fewshot"]
        tensors, _ = read_tensors(folder / TENSORS)
        state = {name.removeprefix(WEIGHTS): value for name, value in tensors.items() if name.startswith(WEIGHTS)}
        x, y, classes = tensors["support.x"], tensors["support.y"], list(content["classes"])
        order = tensors.get(ORDER, torch.arange(len(x)))  # those of older versions are in the order of the rows
        support = SupportSet(x, y, np.array(classes) if classes else None, order.numpy())
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{folder / SAVED} cannot be read ({type(error).__name__}); save the learner anew") from error
    return Run(folder, config, {"state_dict": state, "fewshot": fewshot}, content.get("calibration"), trust, support)


def packages(folder: Path) -> tuple[str, ...]:
    """The packages of all classes that a run's config names: what whoever trained the run has trusted."""
    found = set()
    nodes: list[Any] = [_read_config(folder)]
    while nodes:
        node = nodes.pop()
        nodes += node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
        if isinstance(node, dict) and "_target_" in node:
            found.add(str(node["_target_"]).partition(".")[0])
    return tuple(sorted(found - {"fewshot", "torch", "lightning"}))


def _read_calibration(folder: Path) -> dict[str, Any] | None:
    path = folder / CALIBRATION
    if not path.is_file():
        return None
    try:
        content: Any = json.loads(path.read_text("utf-8"))
        whole = 0 < float(content["temperature"]) < float("inf")
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        whole = False
    if not whole:
        raise UserError(f"{path} cannot be read; delete it, or take another run")
    return dict(content)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"run={folder} is no run's folder: it has no config.yaml; choose one below logs/train/runs")
    try:
        config: Any = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({type(error).__name__}); choose another run") from error
    groups = isinstance(config, dict) and all(isinstance(config.get(group), dict) for group in ("data", "model", "trainer"))
    if not groups or "_target_" not in config["model"] or "image_shape" not in config["data"]:
        raise UserError(f"{path} is no config of a training run; choose one below logs/train/runs")
    return dict(with_current_names(config))


def _read_checkpoint(folder: Path, name: str) -> dict[str, Any]:
    path = folder / "checkpoints" / f"{name}.ckpt"
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        there = [other for other in CHECKPOINTS if (folder / "checkpoints" / f"{other}.ckpt").is_file()]
        remedy = f"take checkpoint={there[0]}" if there else f"train it: python train.py hydra.run.dir={folder}"
        raise UserError(f"{path} is missing: the run has not come so far; {remedy}") from error
    except Exception as error:  # a broken or hostile file raises whatever it likes
        raise UserError(f"{path} is no whole checkpoint of plain data ({type(error).__name__}); use another run") from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise UserError(f"{path} is no checkpoint of a training run; choose one that train.py wrote")
    return content
