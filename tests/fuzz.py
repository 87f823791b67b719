"""Breaks files at random, for `tests/test_fuzz.py` and `tests/data/test_broken_listings.py`."""

import os
from contextlib import suppress

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot.errors import UserError

BROKEN_FILES = int(os.environ.get("FEWSHOT_FUZZ", "60"))

TOKENS = st.sampled_from(
    [
        *(b"\x00", b"\xff" * 4, b"\x7f\xff\xff\xff", b"9" * 30, b"-1", b"1e999", b"NaN", b"null", b"true", b"???"),
        *(b"\n", b"\r", b",", b'"', b"{", b"[", b": ", b"&a", b"*a", b"<<: ", b"../", b"/", b"\xc3\xa9", b"\xed\xa0\x80"),
        *(b"${oc.env:HOME}", b"!!python/object"),
    ]
)
PLACE = st.floats(0, 1, exclude_max=True)
EDIT = st.one_of(
    st.tuples(st.just("cut"), PLACE, st.integers(1, 64)),
    st.tuples(st.just("end"), PLACE, st.none()),
    st.tuples(st.just("put"), PLACE, st.one_of(TOKENS, st.binary(min_size=1, max_size=8))),
    st.tuples(st.just("over"), PLACE, st.one_of(TOKENS, st.binary(min_size=1, max_size=8))),
    st.tuples(st.just("copy"), PLACE, PLACE),
)
EDITS = st.lists(EDIT, min_size=1, max_size=6)


def broken(data: bytes, edits) -> bytes:
    """The bytes after a few edits, each at a place given as a fraction of what is there."""
    for kind, place, what in edits:
        at = int(place * len(data))
        if kind == "cut":
            data = data[:at] + data[at + what :]
        elif kind == "end":
            data = data[:at]
        elif kind == "put":
            data = data[:at] + what + data[at:]
        elif kind == "over":
            data = data[:at] + what + data[at + len(what) :]
        else:
            start = int(what * len(data))
            data = data[:at] + data[start : start + 32] + data[at:]
    return data


def fuzz(path, valid: bytes, read, examples: int = BROKEN_FILES) -> None:
    """Breaks a file again and again; `read` may raise nothing but a UserError."""

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize="FEWSHOT_FUZZ" not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(EDITS)
    def survives(edits):
        path.unlink(missing_ok=True)  # as a new file: readers may remember one by its inode
        path.write_bytes(broken(valid, edits))
        with suppress(UserError):
            read()

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(valid)
    survives()


def read_part(source, part):
    """Lists a part and decodes it."""
    source.classes(part)
    source.files(part)
    source.columns(part)
    list(source.images(part))
