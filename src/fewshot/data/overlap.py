"""Classes and examples that two splits share, which would make unseen classes of seen ones."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fewshot.data.content import Content
from fewshot.errors import UserError
from fewshot.tasks.streams import IntArray
from fewshot.tasks.table import CLASS

log = logging.getLogger(__name__)

NAMED = 5
"""Shared classes that a message names."""
WORDNET = re.compile(r"(?:.*/)?(n\d{8})(?!\d)")
"""How the names of ImageNet's classes begin, also behind the name of a dataset."""


def refuse_shared_names(
    classes: Mapping[str, Sequence[str]], kept_apart: Iterable[tuple[str, str]], sources: Mapping[str, str]
) -> None:
    """Refuses classes of one name in two parts, before any content is read.

    Args:
        classes: of each part.
        kept_apart: pairs of parts.
        sources: name of each part's source.

    Raises:
        UserError: there are such.
    """
    for one, other in kept_apart:
        _refuse(sources[one], one, other, sorted(set(classes[one]) & set(classes[other])))


def log_imagenet_classes(
    source: str, part: str, classes: Sequence[str], trained: Iterable[str], pretrained_on: str | None
) -> None:
    """Logs how many tested classes are ImageNet's and were seen: in training by another name, or by a pretrained network.

    Args:
        source: of the part.
        part: that is tested.
        classes: of the part; those of Stanford Dogs begin with an id of WordNet, those of mini- and tieredImageNet are one.
        trained: classes that the training part has, or had.
        pretrained_on: what a network that is not trained here has learned from.
    """
    ids = {found[1]: name for name in classes if (found := WORDNET.match(name))}
    earlier = {found[1]: name for name in trained if (found := WORDNET.match(name))}
    in_training = sum(earlier.get(wnid, name) != name for wnid, name in ids.items())
    by_network = len(ids) if pretrained_on == "ImageNet" else 0
    for count, where in ((in_training, "in training, by other names"), (by_network, "by the network that came with weights")):
        if count:
            of = f"{count} of the {len(classes)} {part} classes"
            log.info(f"{source}: {of} are ImageNet's and were seen {where}: they are not unseen")


def refuse_shared_images(parts: Mapping[str, Content], kept_apart: Iterable[tuple[str, str]]) -> None:
    """Refuses classes of two parts with half of their examples in common, whatever their names.

    Examples that two parts share without sharing a class are counted in the log.

    Args:
        kept_apart: pairs of parts.

    Raises:
        UserError: there are such classes.
    """
    for one, other in kept_apart:
        pairs = _examples_shared(parts[one], parts[other])
        source, classes, others = parts[one].pieces[0][0].source.name, parts[one].table.classes, parts[other].table.classes
        sizes, other_sizes = (parts[part].table.column(CLASS, f"data.{part}").sizes for part in (one, other))
        alike = [(a, b) for (a, b), shared in pairs.items() if 2 * shared >= min(sizes[a], other_sizes[b])]
        _refuse(source, one, other, [f"{classes[a]} = {others[b]}" for a, b in alike])
        if pairs:
            named = ", ".join(f"{shared} of {classes[a]} and {others[b]}" for (a, b), shared in list(pairs.items())[:NAMED])
            rest = f" and {len(pairs) - NAMED} more pairs of classes" if len(pairs) > NAMED else ""
            log.info(f"{source}: the {one} and {other} splits share {sum(pairs.values())} of their examples: {named}{rest}")


def _examples_shared(one: Content, other: Content) -> dict[tuple[int, int], int]:
    """How many examples of the second are in the first too, for each pair of classes that share any."""
    digests, classes = _digests(one)
    others, other_classes = _digests(other)
    known, first = np.unique(digests, return_index=True)
    place = np.searchsorted(known, others).clip(max=len(known) - 1)
    found = known[place] == others
    pairs = np.stack([classes[first[place[found]]], other_classes[found]], axis=1)
    each, counts = np.unique(pairs, axis=0, return_counts=True)
    return {(int(a), int(b)): int(count) for (a, b), count in zip(each, counts, strict=True)}


def _digests(content: Content) -> tuple[npt.NDArray[np.uint64], IntArray]:
    """The digest and the class of each row of a part."""
    digests = [piece.row_digests if rows is None else piece.row_digests[rows] for piece, rows in content.pieces]
    return np.concatenate(digests), content.table.column(CLASS, "data").values


def _refuse(data: str, one: str, other: str, shared: list[str]) -> None:
    if shared:
        rest = f" and {len(shared) - NAMED} more" if len(shared) > NAMED else ""
        raise UserError(
            f"{data}: the {one} and {other} splits share {len(shared)} of their classes ({', '.join(shared[:NAMED])}{rest}), "
            "which would then not be unseen; leave each class in one split, or set allow_seen_classes=true"
        )
