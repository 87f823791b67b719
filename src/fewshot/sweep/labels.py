"""What tells the jobs of a sweep apart, as short as it can be said."""

import re
from collections.abc import Collection, Iterable, Sequence

OVERRIDE = re.compile(r"([+~]*)([^=]*)(.*)", re.DOTALL)
"""Sign, key, and equals sign with value."""


def common_overrides(jobs: Sequence[Iterable[str]]) -> set[str]:
    """The overrides that all jobs share, which tell none from another; none where there is one job."""
    return set.intersection(*map(set, jobs)) if len(jobs) > 1 else set()


def varied(jobs: Sequence[Iterable[str]]) -> list[str]:
    """The overrides that not all jobs share, each once."""
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
    names = key.split(".")
    for count in range(1, len(names)):
        short = ".".join(names[-count:])
        if not any(other != key and f".{other}".endswith(f".{short}") for other in keys):
            return f"{sign.replace('+', '')}{short}{value}"
    return override


def _parts(override: str) -> tuple[str, str, str]:
    found = OVERRIDE.fullmatch(override)
    return found.groups() if found else ("", override, "")  # type: ignore[return-value]
