"""The nodes of WordNet that Meta-Dataset draws ImageNet's tasks below."""

from functools import cache

from fewshot.data.published import listed
from fewshot.tasks.table import BAR


def nodes_of(wnid: str) -> str:
    """The nodes above a class that have 5 to 392 of its part's classes below them, joined by bars."""
    return BAR.join(_nodes()[wnid])


@cache
def _nodes() -> dict[str, list[str]]:
    """Of each class."""
    above: dict[str, list[str]] = {}
    for node, classes in listed("lists", "imagenet_nodes").items():
        for wnid in classes:
            above.setdefault(wnid, []).append(node)
    return above
