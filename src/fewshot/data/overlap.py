"""Classes that two splits share, which would make unseen classes of seen ones."""

from collections.abc import Mapping, Sequence
from itertools import combinations

from fewshot.data.prepared import PreparedSplit
from fewshot.data.source import ImageClass
from fewshot.errors import UserError

NAMED = 5
"""Shared classes that the refusal names."""


def refuse_shared_names(data: str, splits: Mapping[str, Sequence[ImageClass]]) -> None:
    """Refuses classes of one name in two splits, before any image is decoded."""
    for one, other in combinations(splits, 2):
        _refuse(data, one, other, sorted({c.name for c in splits[one]} & {c.name for c in splits[other]}))


def refuse_shared_images(data: str, splits: Mapping[str, PreparedSplit]) -> None:
    """Refuses classes of two splits that have the same images, whatever their names and the order of their images."""
    for one, other in combinations(splits, 2):
        names = {digest: c.name for c, digest in zip(splits[one].classes, splits[one].contents, strict=True)}
        pairs = zip(splits[other].classes, splits[other].contents, strict=True)
        _refuse(data, one, other, [f"{names[digest]} = {c.name}" for c, digest in pairs if digest in names])


def _refuse(data: str, one: str, other: str, shared: list[str]) -> None:
    if shared:
        rest = f" and {len(shared) - NAMED} more" if len(shared) > NAMED else ""
        raise UserError(
            f"{data}: the {one} and {other} splits share {len(shared)} of their classes ({', '.join(shared[:NAMED])}{rest}), "
            "which would then not be unseen; leave each class in one split"
        )
