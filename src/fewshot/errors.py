"""The one exception that means: the user can mend this."""

import difflib
import re
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in a config, an argument or a data file.

    The message is one line: the key and its value (or the file), what is wrong with it, and the remedy. The entry points
    print it without a traceback and exit with code 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))  # what is quoted in it may have several


def check_int(key: str, value: object, least: int) -> None:
    """Refuses anything but a whole number of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{key}={value} must be a whole number of at least {least}")


def check_positive(key: str, value: object) -> None:
    """Refuses anything but a number greater than 0."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise UserError(f"{key}={value} must be a number greater than 0")


NO_TEXT = re.compile("[\ud800-\udfff]")
"""Halves of characters, in whose disguise Python lets bytes pass that are no UTF-8; nothing can write them."""


def check_text(what: str, names: Iterable[str]) -> None:
    """Refuses the name of a file or class that is no UTF-8.

    Args:
        what: is called so.
    """
    if (wrong := next(filter(NO_TEXT.search, names), None)) is not None:
        shown = wrong.encode("utf-8", "backslashreplace").decode().replace("\\udc", "\\x")
        raise UserError(f"{what} {shown[-200:]} is no UTF-8; rename it")


LISTED, NEAREST = 80, 5
"""Choices that a hint lists, at the most: all experiments and datasets, not all keys of a config; and how many of more."""


def suggest(word: str, choices: Iterable[str]) -> str:
    """A hint naming the choice closest to `word`: ``"; did you mean 'omniglot'?"``; where none is close, all or the nearest."""
    known = sorted(set(choices))
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    if len(known) <= LISTED:
        return f"; choose one of: {', '.join(known)}"
    nearest = difflib.get_close_matches(word, known, n=NEAREST, cutoff=0)
    return f"; choose one of {len(known):,}, of which the nearest are: {', '.join(nearest)}"
