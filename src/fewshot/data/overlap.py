"""Classes that two splits share, which would make unseen classes of seen ones."""

from collections.abc import Mapping, Sequence
from itertools import combinations

from fewshot.data.content import Content
from fewshot.errors import UserError

NAMED = 5
"""Shared classes that the refusal names."""


def refuse_shared_names(parts: Mapping[str, tuple[str, Sequence[str]]]) -> None:
    """Refuses classes of one name in two parts, before any content is read.

    Args:
        parts: name of the source and of the classes, of each.
    """
    for one, other in combinations(parts, 2):
        (source, classes), (_, others) = parts[one], parts[other]
        _refuse(source, one, other, sorted(set(classes) & set(others)))


def refuse_shared_images(parts: Mapping[str, Content]) -> None:
    """Refuses classes of two parts that have the same images, whatever their names and the order of their images."""
    found = {part: _digests(content) for part, content in parts.items()}
    for one, other in combinations(parts, 2):
        shared = found[one].keys() & found[other].keys()
        pairs = sorted((found[one][digest], found[other][digest]) for digest in shared)
        _refuse(parts[one].pieces[0][0].source.name, one, other, [f"{name} = {alias}" for name, alias in pairs])


def _digests(content: Content) -> dict[str, str]:
    """Digest of its images -> name, of each class of a part."""
    members = set(content.table.classes)
    return {
        digest: c.name
        for prepared, _ in content.pieces
        for c, digest in zip(prepared.classes, prepared.contents, strict=True)
        if c.name in members
    }


def _refuse(data: str, one: str, other: str, shared: list[str]) -> None:
    if shared:
        rest = f" and {len(shared) - NAMED} more" if len(shared) > NAMED else ""
        raise UserError(
            f"{data}: the {one} and {other} splits share {len(shared)} of their classes ({', '.join(shared[:NAMED])}{rest}), "
            "which would then not be unseen; leave each class in one split, or set allow_seen_classes=true"
        )
