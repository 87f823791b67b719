"""Every value of a config has the type that its key takes, and no key is unknown: found before torch is imported."""

import ast
import re
from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf, open_dict

from fewshot.errors import UserError, check_int, check_positive, suggest
from fewshot.runtime.config_groups import choices, chosen
from fewshot.runtime.signatures import WORDS, Annotation, signature

TOP = {
    "data": "Part",
    "objective": "Part",
    "model": "Part",
    "trainer": "Part",
    "callbacks": "dict[str, Part]",
    "logger": "dict[str, Part]",
    "paths": "dict[str, str]",
    "name": "str | None",
    "tags": "Sequence[str]",
    "seed": "int | None",
    "threads": "int | None",
    "test": "bool",
    "calibration_tasks": "int",
    "val_at_start": "bool",
    "resume": "bool",
    "init_from": "str | None",
    "init_part": "str",
    "allow_seen_classes": "bool",
    "control": "str | None",
}
"""Keys of a training run's config, with their types; the parameters of each ``_target_`` have the types of those below."""
NUMBERS = "maml"
EVALUATION = {"run": "str", "split": "str", "checkpoint": "str", "ensemble": "int | None"}
"""Those that an evaluation has beside them."""
PREDICTION = {
    "run": "str",
    "support": "str",
    "query": "str | None",
    "out": "str",
    "checkpoint": "str",
    "shots": "int | None",
    "transductive": "bool",
    "device": "str",
    "trust": "Sequence[str]",
    "leave_one_out": "bool",
    "false_alarms": "float",
    "score": "str | None",
    "sheet": "bool",
    "paths": "dict[str, str]",
}
"""Keys of ``predict.py``."""
EXPORT = {
    "run": "str",
    "support": "str",
    "format": "str",
    "out": "str",
    "episode": "bool",
    "checkpoint": "str",
    "shots": "int | None",
    "trust": "Sequence[str]",
    "paths": "dict[str, str]",
}
"""Keys of ``export.py``."""
DEMO = {"run": "str", "port": "int", "checkpoint": "str", "trust": "Sequence[str]", "paths": "dict[str, str]"}
"""Keys of ``demo.py``."""
OTHER_JOBS = {
    "fewshot.predict.command:predict": PREDICTION,
    "fewshot.predict.export:export": EXPORT,
    "fewshot.predict.demo:demo": DEMO,
}
"""Keys of what is no training or evaluation, by job."""
SHARED = {
    "source": "Part",
    "ways": "int | Sequence[int]",
    "shots": "int | Sequence[int] | Literal['meta_dataset', 'rest']",
    "queries": "int",
    "apart": "str | None",
    "families": "Sequence[str]",
    "noise": "float",
    "buckets": "int",
    "words": "int",
    "tokens": "int",
    "group": "str",
    "rows": "Sequence[int] | None",
    "allow_partial": "bool",
    "eval": "dict",
}
"""Keys of ``data`` that its parts refer to, with their types."""
LEAST = {
    **{f"data.{part}{key}": 1 for part in ("", "train.", "eval.", "val.", "test.") for key in ("ways", "shots", "queries")},
    **{f"data.{key}": 1 for key in ("meta_batch_size", "val_tasks", "test_tasks")},
    **{f"trainer.{key}": 1 for key in ("max_steps", "val_check_interval", "log_every_n_steps")},
    "data.num_workers": 0,
    "model.backbone.filters": 1,
    "model.inner.steps": 1,
    "model.inner.eval_steps": 0,
    "data.eval.unknown_ways": 0,
    "calibration_tasks": 0,
    "seed": 0,
    "threads": 1,
}
"""Whole numbers, and the least that each may be."""
LARGEST_SEED = 2**32 - 1
"""NumPy takes no larger one."""
PRECISIONS = ("32-true", "bf16-mixed")
"""fp16 loses the inner gradients, which no loss scaling reaches (Lightning #12600)."""
CONTROLS = ("shuffled_labels", "random_init", "all")
INIT_PARTS = ("all", "backbone")

INSTEAD = {
    "trainer.gradient_clip_val": "model.gradient_clip={val: 10, algorithm: norm}",
    "trainer.gradient_clip_algorithm": "model.gradient_clip={val: 10, algorithm: norm}",
    "trainer.accumulate_grad_batches": "data.meta_batch_size, and model.inner.task_chunk to have fewer in memory",
    "trainer.logger": "the group logger",
    "trainer.callbacks": "the group callbacks",
    "trainer.plugins": "a trainer of your own in Python",
    "trainer.sync_batchnorm": "model.batch_norm; each task is normalised by itself, whatever process it is in",
    "trainer.reload_dataloaders_every_n_epochs": "nothing; one epoch is the whole run",
    "trainer.barebones": "callbacks=minimal",
}
"""Keys of Lightning's trainer that have no meaning for outer steps, and what has."""


def check_config(cfg: DictConfig) -> None:
    """Finds what is wrong with a composed config without building anything, and completes it (`place_numbers`).

    Raises:
        UserError: a key is unknown or missing, or its value is of another type than it takes.
    """
    place_numbers(cfg)
    drawn = deepcopy(cfg)
    if drawn.get("seed", 0) is None:
        drawn.seed = 0  # one is drawn when the run begins
    values: dict[str, Any] = OmegaConf.to_container(drawn)  # type: ignore[assignment]
    top = TOP | EVALUATION if "run" in values else TOP
    for key in top:
        if key not in values:
            raise UserError(f"{key} is missing, and every run needs it; choose one of: {', '.join(choices(key))}")
    for key in values:
        if key not in top:
            raise UserError(_unknown(key, top))
    precision = str(OmegaConf.select(cfg, "trainer.precision"))
    if precision not in PRECISIONS:
        lost = " (the inner gradients vanish in fp16, where no loss scaling reaches them)" if precision.startswith("16") else ""
        raise UserError(f"trainer.precision={precision} is not supported{lost}; choose one of: {', '.join(PRECISIONS)}")
    kinds = {key: Annotation(ast.parse(text, mode="eval").body, Path(__file__)) for key, text in top.items()}
    for key, kind in kinds.items():  # where each was written, before what refers to it
        _check(key, values[key], kind)
    for key, least in LEAST.items():
        value = OmegaConf.select(drawn, key, default=least)
        for number in value if OmegaConf.is_list(value) else [value]:
            if number not in ("meta_dataset", "rest") and (number is not None or key != "threads"):
                check_int(key, shown(number) if number is None else number, least)
    values = OmegaConf.to_container(drawn, resolve=True)  # type: ignore[assignment]
    for key, kind in kinds.items():
        _check(key, values[key], kind)
    _check_choices(values)


def check_keys(cfg: DictConfig, kinds: dict[str, str]) -> None:
    """Finds what is wrong with the config of a job that trains and evaluates nothing.

    Raises:
        UserError: a key is unknown or missing, or its value is of another type than it takes.
    """
    values: dict[str, Any] = OmegaConf.to_container(cfg)  # type: ignore[assignment]
    for key in values:
        if key not in kinds:
            raise UserError(_unknown(key, kinds))
    for key, text in kinds.items():
        if key not in values or values[key] == "???":
            raise UserError(f"{key}=??? must be given; see --help")
        _check(key, values[key], Annotation(ast.parse(text, mode="eval").body, Path(__file__)))


def place_numbers(cfg: DictConfig) -> None:
    """Puts MAML's numbers for an experiment in the place of what refers to them, and takes their node away.

    An experiment has them for whatever model refers to them, where a model's recipe has no others; a run has one key for each.
    """
    if NUMBERS not in cfg:
        return
    written: dict[str, Any] = OmegaConf.to_container(cfg)  # type: ignore[assignment]
    numbers = written.pop(NUMBERS)

    def number(name: str) -> Any:
        found = numbers
        for key in name.split("."):
            if not isinstance(found, dict) or key not in found:
                raise UserError(f"{NUMBERS}.{name} is missing, and this config refers to it; set it in the experiment")
            found = found[key]
        return found

    def placed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: placed(inner) for key, inner in value.items()}
        reference = re.fullmatch(rf"\$\{{{NUMBERS}\.([\w.]+)\}}", value) if isinstance(value, str) else None
        return number(reference[1]) if reference else value

    with open_dict(cfg):
        del cfg[NUMBERS]
        for key, value in written.items():
            if (new := placed(value)) != value:
                cfg[key] = new


def _check(key: str, value: Any, kind: Annotation | None) -> None:
    """A value and what it contains; references to others are as good as these."""
    if isinstance(value, str) and "${" in value:
        return
    if kind is not None and not kind.fits(value):
        hint = f"; choose it by {key}={value} in the defaults list" if isinstance(value, str) and value in choices(key) else ""
        least = f" of at least {LEAST[key]}" if key in LEAST else ""
        raise UserError(f"{key}={shown(value)} must be {kind}{least}{hint}")
    if isinstance(value, list):
        for i, item in enumerate(value):
            _check(f"{key}[{i}]", item, None)
    if not isinstance(value, dict):
        return
    for flag, meant in (("_target_", str), ("_partial_", bool)):
        if not isinstance(value.get(flag, meant()), meant):
            raise UserError(f"{key}.{flag}={shown(value[flag])} must be {WORDS[meant.__name__]}")
    takes = signature(value["_target_"]) if "_target_" in value else None
    shared = SHARED if key == "data" else {}
    for name, inner in value.items():
        below = f"{key}.{name}"
        if below in INSTEAD:
            raise UserError(f"{below} does nothing here; use {INSTEAD[below]}")
        if name in shared:
            _check(below, inner, Annotation(ast.parse(shared[name], mode="eval").body, Path(__file__)))
            continue
        if takes and takes.closed and name not in takes.parameters and not str(name).startswith("_"):
            raise UserError(_unknown(below, [f"{key}.{known}" for known in [*takes.parameters, *shared]]))
        _check(below, inner, takes.parameters.get(name) if takes else kind and kind.of_values)
    if takes and not value.get("_partial_"):
        for name in sorted(takes.required - value.keys()):
            raise UserError(f"{key}.{name} is missing, and {value['_target_']} needs it; give it back with +{key}.{name}=VALUE")


def _check_choices(values: dict[str, Any]) -> None:
    """Refuses values of the right type that mean nothing, alone or together."""
    if (values["data"].get("test") or {}).get("unknown") and not values["data"]["eval"].get("unknown_ways"):
        raise UserError("data.test.unknown is set, but data.eval.unknown_ways=0 asks for no such queries; set it to 1 or more")
    if "lr" in values["model"].get("inner", {}):
        check_positive("model.inner.lr", values["model"]["inner"]["lr"])
    if (values["seed"] or 0) > LARGEST_SEED:
        raise UserError(f"seed={values['seed']} must be at most {LARGEST_SEED}")
    if values["control"] not in (None, *CONTROLS):
        raise UserError(f"control={values['control']} is unknown{suggest(values['control'], CONTROLS)}")
    if values["init_part"] not in INIT_PARTS:
        raise UserError(f"init_part={values['init_part']} is unknown{suggest(values['init_part'], INIT_PARTS)}")
    if values["init_part"] != "all" and values["init_from"] is None:
        raise UserError(f"init_part={values['init_part']} but init_from=null; name the run that has them, as in init_from=RUN")
    data, backbone = (part.get("image_shape") for part in (values["data"], values["model"].get("backbone", {})))
    if data and backbone and data != backbone:
        raise UserError(f"model.backbone.image_shape={backbone} is not data.image_shape={data}; leave it as it was")
    if values["trainer"].get("inference_mode", True):
        raise UserError(
            "trainer.inference_mode=true would leave validation without the inner loop's gradients; set it to false"
        )
    clip = values["model"].get("gradient_clip")
    if clip is not None:
        if clip.keys() != {"val", "algorithm"} or clip["algorithm"] not in ("value", "norm"):
            raise UserError(f"model.gradient_clip={shown(clip)} must be {{val: NUMBER, algorithm: value or norm}}")
        check_positive("model.gradient_clip.val", clip["val"])


def shown(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n").removesuffix("\n...")


def _unknown(key: str, known: Iterable[str]) -> str:
    """Names the file that sets the key, where one of those chosen does."""
    for file in chosen():
        if file.has(key):
            return f"{file.path}: {key} is no key of this config{suggest(key, known)}"
        if file.group == key and not file.is_global:  # a group without a node of its own
            return f"{file.path} changes nothing as it is; make '# @package _global_' its first line"
    return f"{key} is no key of this config{suggest(key, known)}"
