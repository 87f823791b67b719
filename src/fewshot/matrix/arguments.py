"""What a command line says of a key, and names of folders that go by what a run has left."""

import hashlib
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser

from fewshot.sweep.job import RESULTS

DIGITS = 8


def values_of(argument: str) -> list[str]:
    """The values of a key on the command line; several of one that a sweep goes over."""
    override = OverridesParser.create().parse_override(argument)
    return list(override.sweep_string_iterator()) if override.is_sweep_override() else [override.get_value_element_as_str()]


def state_of(run: Path) -> str:
    """Some digits that change when a run is trained further, or anew: its evaluations so far are of another checkpoint then."""
    return hashlib.sha256((run / RESULTS).read_bytes()).hexdigest()[:DIGITS]
