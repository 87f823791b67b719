"""From the jobs of a command to those of a cross-validation: each on every fold of its data."""

import re
from collections.abc import Callable, Sequence
from itertools import zip_longest

from omegaconf import DictConfig, OmegaConf, open_dict

from fewshot.errors import UserError

SPLIT, FOLD, GROUP = "data/split", "data.split.fold", "data.split.which"
LEFT_OUT = "LeaveOneGroupOut"
FOLDED = ("KFold", "ColdStart", LEFT_OUT)
"""The splits that have folds, or groups in their place."""
WORD = re.compile(r"(?!(?:true|false|yes|no|on|off|null|nan|inf)$)[A-Za-z_]\w*", re.IGNORECASE)
"""What is text on a command line without quotes."""
Compose = Callable[[Sequence[str]], DictConfig]


def on_every_fold(jobs: Sequence[Sequence[str]], compose: Compose) -> list[list[str]]:
    """The overrides of all jobs, on the first fold of the data of each, then on the second, and so on.

    Args:
        jobs: overrides of each, with one value each; folds that they name themselves are the ones that are taken.
        compose: makes a config, with Hydra's own node, of overrides.

    Raises:
        UserError: data have no folds.
    """
    known: dict[tuple[str, ...], list[list[str]]] = {}
    found = []
    for job in jobs:
        about_data = tuple(override for override in job if not override.startswith("seed="))
        if about_data not in known:
            known[about_data] = _folds(job, compose)
        found.append([[*job, *fold] for fold in known[about_data]])
    return [job for fold in zip_longest(*found) for job in fold if job is not None]


def _folds(job: Sequence[str], compose: Compose) -> list[list[str]]:
    """What a job's overrides lack for each of its folds.

    The preset's split is kfold, which holds over that of the dataset: the dataset's is taken where it has folds.
    """
    own = compose([override for override in job if not override.startswith(("sweep=", "data.split."))])
    if own.data.get("split") is None:
        raise UserError("sweep=cross_validation but these tasks are computed: there is nothing to divide into folds")
    keys = {override.split("=")[0] for override in job}
    split = [f"{SPLIT}={own.hydra.runtime.choices[SPLIT]}"] if _rule(own) in FOLDED and SPLIT not in keys else []
    if {FOLD, GROUP} & keys:
        return [split]
    cfg = compose([*job, *split])
    if _rule(cfg) == LEFT_OUT:
        return [[*split, f"{GROUP}={_quoted(group)}"] for group in _groups(cfg)]
    if _rule(cfg) in FOLDED:
        return [[*split, f"{FOLD}={fold}"] for fold in range(cfg.data.split.folds)]
    raise UserError(f"{SPLIT}={cfg.hydra.runtime.choices[SPLIT]} has no folds; choose kfold or leave_one_group_out")


def _rule(cfg: DictConfig) -> str:
    """The class of the split."""
    return str(cfg.data.split["_target_"]).rpartition(".")[2]


def _groups(cfg: DictConfig) -> list[str]:
    """The values of the column by which one group after another is left out; the data must be there."""
    if OmegaConf.is_missing(cfg.data.split, "by"):
        raise UserError(f"{SPLIT}=leave_one_group_out needs the column whose values are left out, as in data.split.by=alphabet")
    from fewshot.runtime.build import build_data
    from fewshot.runtime.config_check import place_numbers

    with open_dict(cfg):
        del cfg["hydra"]  # there is no job yet whose folder it could name
    cfg.data.split.which = cfg.paths.output_dir = ""
    place_numbers(cfg)
    return build_data(cfg).split_values()


def _quoted(text: str) -> str:
    """As a value of a command line."""
    if WORD.fullmatch(text):
        return text
    return "'" + re.sub(r"(\\*)'", r"\1\1\\'", text) + "'"
