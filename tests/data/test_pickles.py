"""Tests of reading pickles without running what they contain."""

import builtins
import os
import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot.data.files.pickles import load_dict, load_pickle
from tests.data.fakes import photo, refusal

CONTENT = {"image_data": np.stack([photo(i) for i in range(3)]), "class_dict": {"n01": [0, 1], "n02": [2]}}


class Calls:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments, state=None):
        self._call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self._call


class Foreign:
    """A class that is no data: it writes a file when its state is set."""

    def __init__(self, path):
        self.path = path

    def __setstate__(self, state):
        Path(state["path"]).touch()


def saved(tmp_path, data: bytes) -> Path:
    path = tmp_path / "cache.pkl"
    path.write_bytes(data)
    return path


def payloads(marker: str) -> dict[str, object]:
    return {
        "os.system": Calls(os.system, f"touch {marker}"),
        "subprocess": Calls(subprocess.call, ["touch", marker]),
        "eval": Calls(builtins.eval, f"open({marker!r}, 'w').close()"),
        "exec": Calls(builtins.exec, f"open({marker!r}, 'w').close()"),
        "foreign class": Foreign(marker),
        "numpy function": Calls(np.save, marker, [1]),
        "inside an array": np.array([Calls(os.system, f"touch {marker}")], dtype=object),
        "inside the data": {"image_data": [{"x": (Calls(os.system, f"touch {marker}"),)}]},
    }


@pytest.mark.parametrize("name", payloads(""))
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_code_is_refused_and_not_run(tmp_path, name, protocol):
    marker = tmp_path / "run.npy"
    data = pickle.dumps(payloads(str(marker))[name], protocol=protocol)
    path = saved(tmp_path, data)
    message = refusal(load_pickle, path)
    assert not marker.exists()
    assert str(path) in message
    assert "download it again" in message
    pickle.loads(data)  # noqa: S301  the payload is a real one: Python's own reader runs it
    assert marker.exists()


@pytest.mark.parametrize(
    "name",
    [
        *(
            "os system",
            "posix system",
            "builtins eval",
            "builtins getattr",
            "builtins __import__",
            "numpy load",
            "numpy fromfile",
        ),
        *("numpy.core.multiarray fromfile", "numpy._core.multiarray array", "_codecs lookup", "_codecs decode", "numpy memmap"),
        *(
            "numpy ndarray.tofile",
            "numpy dtype.__class__",
            "copyreg _reconstructor",
            "functools partial",
            "collections OrderedDict",
        ),
    ],
)
def test_a_name_that_is_no_data_is_refused(tmp_path, name):
    module, attribute = name.encode().split()
    short = b"\x80\x04\x8c" + bytes([len(module)]) + module + b"\x8c" + bytes([len(attribute)]) + attribute + b"\x93."
    for data in (b"c" + module + b"\n" + attribute + b"\n.", short):
        assert name.replace(" ", ".") in refusal(load_pickle, saved(tmp_path, data))


@pytest.mark.parametrize("put", [b"r\xff\xff\xff\x7f", b"p2147483647\n"])
def test_a_number_of_a_remembered_object_takes_no_memory(tmp_path, put):
    """Python makes room for as many objects: 32 GiB for 12 bytes."""
    assert "it remembers object 2147483647" in refusal(load_pickle, saved(tmp_path, b"\x80\x02]" + put + b"."))


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_images_of_pillow_are_refused_with_the_reason(tmp_path, protocol):
    """They are objects, as in the caches of libraries."""
    image = Image.fromarray(photo(0))
    message = refusal(load_pickle, saved(tmp_path, pickle.dumps({"x": [image]}, protocol=protocol)))
    assert ("Pillow's images" in message) or (protocol == 0 and "_reconstructor" in message)


def test_keys_may_be_bytes(tmp_path):
    """As in pickles of Python 2 that were written again by Python 3."""
    assert load_dict(saved(tmp_path, pickle.dumps({b"labels": [1], "data": [2]}))) == {"labels": [1], "data": [2]}
    for content, kind in (([1], "list"), (np.arange(3), "ndarray")):
        assert f"holds {kind} instead of a dict" in refusal(load_dict, saved(tmp_path, pickle.dumps(content)))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_honest_arrays_are_read(tmp_path, protocol):
    loaded = load_pickle(saved(tmp_path, pickle.dumps(CONTENT, protocol=protocol)))
    np.testing.assert_array_equal(loaded["image_data"], CONTENT["image_data"])
    assert loaded["image_data"].dtype == np.uint8
    assert loaded["class_dict"] == CONTENT["class_dict"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_an_array_that_lies_otherwise_in_memory_is_read(tmp_path, protocol):
    array = np.asfortranarray(np.arange(12, dtype=">i4").reshape(3, 4))
    np.testing.assert_array_equal(load_pickle(saved(tmp_path, pickle.dumps(array, protocol=protocol))), array)


def with_core(data: bytes, core: bytes) -> bytes:
    """A pickle of protocol 2 or 5 in which NumPy's inner modules lie in `core`: ``numpy.core`` in NumPy 1."""
    own = b"numpy._core" if b"numpy._core" in data else b"numpy.core"
    for module in (b".multiarray", b".numeric"):
        old, new = own + module, core + module
        data = data.replace(b"c" + old + b"\n", b"c" + new + b"\n")
        data = data.replace(bytes([0x8C, len(old)]) + old, bytes([0x8C, len(new)]) + new)
    return data[:2] + data[11:] if data[2] == 0x95 else data  # without the frame, whose length has changed


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_arrays_of_numpy_1_and_of_numpy_2_are_read(tmp_path, protocol, core):
    data = with_core(pickle.dumps(CONTENT["image_data"], protocol=protocol), core)
    assert core + b"." in data
    np.testing.assert_array_equal(load_pickle(saved(tmp_path, data)), CONTENT["image_data"])


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.float32])
def test_lists_of_numpy_numbers_are_read(tmp_path, protocol, core, kind):
    data = with_core(pickle.dumps([kind(3), kind(250)], protocol=protocol), core)
    numbers = load_pickle(saved(tmp_path, data))
    assert numbers == [3, 250]
    assert {type(number) for number in numbers} == {kind}


def test_an_object_in_place_of_a_number_is_refused(tmp_path):
    scalar = np.int64(0).__reduce__()[0]
    for arguments in ((np.dtype(object), b"12345678"), (np.dtype("i8"), b"1234")):
        assert "cache.pkl" in refusal(load_pickle, saved(tmp_path, pickle.dumps(Calls(scalar, *arguments), protocol=4)))


RECONSTRUCT = np.zeros(1).__reduce__()[0]


def array_of(shape, data, dtype="i4"):
    return Calls(RECONSTRUCT, np.ndarray, (0,), b"b", state=(1, shape, np.dtype(dtype), False, data))


@pytest.mark.parametrize(
    "call",
    [
        Calls(np.dtype, "i4", state=(3, "<", None, -1, -1, 0)),  # NumPy's own dtype ends the process
        Calls(np.dtype, "i4", state=(3, "<", None, ("a",), {"a": (1, 2)}, 8, 1, 0)),
        Calls(np.dtype, "V8"),
        array_of((3,), b"1234"),
        array_of((1,), 10**12),
        array_of((-1, -1), b"1234"),
        array_of((0, 2**63), b""),
        array_of((1,) * 70, b"1234"),
        array_of((1,), [1]),
        array_of((2,), [1], "O"),
        Calls(np.zeros(1).__reduce_ex__(5)[0], array_of((1,), b"1234"), np.dtype("i4"), (1,), "C"),
    ],
)
def test_a_state_that_numpy_does_not_write_is_refused(tmp_path, call):
    assert "is not a pickle of plain data" in refusal(load_pickle, saved(tmp_path, pickle.dumps([call], protocol=4)))


def test_an_array_gets_its_data_once(tmp_path):
    """NumPy would free what others may already see."""
    data = pickle.dumps(array_of((1,), b"1234"), protocol=4)
    built = data.rindex(b"b")  # the operation that sets a state
    state = data[data.index(b"(", data.index(b"R")) : built]
    assert load_pickle(saved(tmp_path, data))[0] == int.from_bytes(b"1234", "little")
    assert "has other data" in refusal(load_pickle, saved(tmp_path, data[:2] + data[11:built] + b"b" + state + b"b."))


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_arrays_of_strings_and_objects_are_read(tmp_path, protocol):
    for array in (np.array(["ab", "c"]), np.array([b"x", b"yz"]), np.array([[1], "a", None], dtype=object), np.ones(2, ">f4")):
        loaded = load_pickle(saved(tmp_path, pickle.dumps(array, protocol=protocol)))
        assert (loaded.dtype.kind, loaded.tolist()) == (array.dtype.kind, array.tolist())
        assert type(pickle.loads(pickle.dumps(loaded))) is np.ndarray  # noqa: S301


def test_strings_of_python_2_are_read(tmp_path):
    assert load_pickle(saved(tmp_path, b"\x80\x02U\x04n01\xe9.")) == "n01é"


@pytest.mark.parametrize("kept", [0, 1, 2, 50, 0.5, 0.999])
def test_a_truncated_pickle_is_refused(tmp_path, kept):
    data = pickle.dumps(CONTENT, protocol=4)
    path = saved(tmp_path, data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    assert str(path) in refusal(load_pickle, path)


@pytest.mark.parametrize("data", [b"<!DOCTYPE html>\n<html>\n404\n</html>", b"PK\x03\x04zip", b"filename,label\na,b\n"])
def test_what_is_no_pickle_is_refused(tmp_path, data):
    assert "download it again" in refusal(load_pickle, saved(tmp_path, data))


def test_a_missing_pickle_is_refused(tmp_path):
    assert str(tmp_path / "cache.pkl") in refusal(load_pickle, tmp_path / "cache.pkl")


def test_an_array_larger_than_the_memory_is_refused(tmp_path):
    assert "cache.pkl" in refusal(load_pickle, saved(tmp_path, pickle.dumps(Calls(np.ndarray, (2**60,), "u1"), protocol=4)))


def test_depth_without_end_is_refused(tmp_path):
    assert "cache.pkl" in refusal(load_pickle, saved(tmp_path, b"]" * 50 + b"\x94(" * 10**5 + b"a."))
