"""What tells the jobs of a sweep apart, as short as it can be said."""

import re
from collections.abc import Collection, Iterable, Sequence

OVERRIDE = re.compile(r"([+~]*)([^=]*)(.*)", re.DOTALL)
"""Sign, key, and equals sign with value."""


def common_overrides(jobs: Sequence[Iterable[str]]) -> set[str]:
    """The overrides that tell no job from another; none where there is one job.

    They are those that all jobs share, and those that always go with a choice above them: ``model.backbone.name=FILE`` where
    the jobs that have it are those of ``model/backbone=timm``.
    """
    if len(jobs) < 2:
        return set()
    having: dict[str, set[int]] = {}
    for number, job in enumerate(jobs):
        for override in job:
            having.setdefault(override, set()).add(number)
    return {
        override
        for override, found in having.items()
        if len(found) == len(jobs) or any(found == others and _is_above(choice, override) for choice, others in having.items())
    }


def varied(jobs: Sequence[Iterable[str]]) -> list[str]:
    """The overrides that tell jobs apart, each once."""
    common = common_overrides(jobs)
    return [override for override in dict.fromkeys(each for job in jobs for each in job) if override not in common]


def short_label(overrides: Iterable[str], among: Collection[str]) -> str:
    """Overrides in a line, each key without the groups that it can do without: ``lr=0.1`` where no other key ends in ``lr``.

    Args:
        overrides: of a job, those left out that all jobs share.
        among: overrides whose keys are to be told from these.
    """
    keys = {_parts(override)[1] for override in among}
    return " ".join(_shortened(override, keys) for override in overrides)


def _shortened(override: str, keys: set[str]) -> str:
    sign, key, value = _parts(override)
    names = [key] if "@" in key else re.split("[./]", key)  # data/source@data.test.source is no shorter for what it says
    for count in range(1, len(names)):
        short = ".".join(names[-count:])
        if not any(other != key and f".{_dotted(other)}".endswith(f".{short}") for other in keys):
            return f"{sign.replace('+', '')}{short}{value}"
    return override


def _is_above(choice: str, override: str) -> bool:
    return _dotted(_parts(override)[1]).startswith(f"{_dotted(_parts(choice)[1])}.")


def _dotted(key: str) -> str:
    """Of a group, as of a value."""
    return key.replace("/", ".")


def _parts(override: str) -> tuple[str, str, str]:
    found = OVERRIDE.fullmatch(override)
    return found.groups() if found else ("", override, "")  # type: ignore[return-value]
