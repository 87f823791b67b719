"""Tests of arrays in npz files that nobody vouches for."""

import io
import zipfile

import numpy as np
import pytest

from fewshot.data.files.arrays import array_names, read_array
from fewshot.data.files.places import Place
from tests.data.fakes import refusal, write_zip

IMAGES = np.arange(2 * 3 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3, 3)


def npy(header: dict, data: bytes) -> bytes:
    """A file of NumPy's with any header."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + data


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_is_read_in_a_folder_and_in_an_archive(tmp_path, save, order):
    path = tmp_path / "a.npz"
    save(path, images=np.asarray(IMAGES, order=order), names=np.array(["a", "b"]))
    write_zip(tmp_path / "packed.zip", {"x/a.npz": path.read_bytes()}, zipfile.ZIP_DEFLATED)
    for place in (Place(path), Place(tmp_path / "packed.zip", "x/a.npz")):
        assert array_names(place) == ["images", "names"]
        np.testing.assert_array_equal(read_array(place, "images"), IMAGES)
        assert read_array(place, "names").tolist() == ["a", "b"]
    assert isinstance(read_array(Place(path), "images"), np.memmap) == (save is np.savez)


@pytest.mark.parametrize(
    ("kind", "shape", "data", "said"),
    [
        ("|u1", (10**12, 84, 84, 3), b"x" * 10, "promises uint8 (1000000000000, 84, 84, 3) and has 10 bytes"),
        ("|u1", (2, 3), b"x" * 7, "promises uint8 (2, 3) and has 7 bytes"),
        ("|u1", (-2, -3), b"x" * 6, "promises uint8 (-2, -3) and has 6 bytes"),
        ("|O", (1,), b"x" * 8, "it holds objects"),
    ],
)
def test_a_header_that_lies_is_refused_before_memory_is_taken(tmp_path, kind, shape, data, said):
    header = {"descr": kind, "fortran_order": False, "shape": shape}
    path = write_zip(tmp_path / "a.npz", {"images.npy": npy(header, data)})
    assert said in refusal(read_array, Place(path), "images")


def test_what_is_no_npz_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"PK")
    assert f"{path} is not a whole zip archive" in refusal(array_names, Place(path))
    packed = Place(write_zip(tmp_path / "b.zip", {"a.npz": b"PK"}), "a.npz")
    assert "a.npz is not a whole npz file" in refusal(array_names, packed)
    write_zip(tmp_path / "c.npz", {"x.npy": b"no"})
    assert "images cannot be read" in refusal(read_array, Place(tmp_path / "c.npz"), "images")
