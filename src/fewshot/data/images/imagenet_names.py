"""What ImageNet's classes are called: by WordNet id, or by name."""

import re
from functools import cache

from fewshot.data.published import listed

WNID = re.compile(r"n\d{8}")


def wnid_of(name: str) -> str | None:
    """The WordNet id that a name begins with (``n01532829_12.JPEG``) or stands for; None of what is no class here."""
    found = WNID.match(name)
    return found.group() if found else _ids().get(_plain(name))


@cache
def _ids() -> dict[str, str]:
    """WordNet id of each name, whole or its first word alone, of the classes of mini- and tieredImageNet."""
    names: dict[str, str] = listed("lists", "imagenet_names")
    return {_plain(name): wnid for wnid, whole in names.items() for name in (whole, whole.split(",")[0])}


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s_]+", name.lower().strip()))
