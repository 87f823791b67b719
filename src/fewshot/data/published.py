"""The splits in circulation: which classes of a dataset train, validate and are tested, by their names."""

import json
from functools import cache
from importlib import resources
from typing import Any

from fewshot.data.source import SPLITS
from fewshot.errors import UserError, suggest


def listed(kind: str, name: str) -> Any:
    """A list that comes with the package: of ``splits`` or of other ``lists`` of facts about published datasets."""
    return json.loads((resources.files("fewshot.data.images") / kind / f"{name}.json").read_text("utf-8"))


@cache
def splits_of(dataset: str) -> tuple[str, ...]:
    """The names of a dataset's splits in circulation."""
    files = (path.name.removesuffix(".json") for path in (resources.files("fewshot.data.images") / "splits").iterdir())
    return tuple(sorted(name.removeprefix(f"{dataset}_") for name in files if name.startswith(f"{dataset}_")))


@cache
def published_classes(dataset: str, split: str) -> dict[str, tuple[str, ...]]:
    """The classes of each part of a split, sorted by name; a part that it does not have is empty."""
    content = listed("splits", f"{dataset}_{split}")
    return {part: tuple(sorted(content[part])) for part in SPLITS}


@cache
def part_of_class(dataset: str, split: str) -> dict[str, str]:
    """The part of each class of a split."""
    return {name: part for part, names in published_classes(dataset, split).items() for name in names}


def check_split(dataset: str, split: str) -> str:
    """The name of a split, if the dataset has it.

    Raises:
        UserError: it has not.
    """
    if split not in splits_of(dataset):
        raise UserError(f"data.split.name={split} is no split of {dataset}{suggest(str(split), splits_of(dataset))}")
    return split
