"""MATLAB's files as SciPy writes them, and broken ones."""

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from fewshot.data.files import mat
from fewshot.data.files.mat import load_mat
from fewshot.data.files.places import Place
from tests.data.fakes import refusal


@pytest.mark.parametrize("compressed", [True, False])
def test_numbers_texts_and_structures_are_read_as_by_scipy(tmp_path, compressed):
    path = tmp_path / "a.mat"
    kinds = ("u1", "i2", "i4", "f4", "f8", "i8", "u2")
    numbers = {f"x_{kind}": np.arange(6).astype(kind).reshape(2, 3) for kind in kinds}
    cars = np.array([[(1, 2.5, "a.jpg"), (300, 4.0, "été")]], dtype=[(name, object) for name in ("x", "y", "name")])
    savemat(path, numbers | {"text": "flower", "cars": cars, "one": np.uint8(7)}, do_compression=compressed)
    read, expected = load_mat(Place(path)), loadmat(path)
    for name, array in numbers.items():
        np.testing.assert_array_equal(read[name], expected[name])
        assert read[name].dtype == array.dtype
    assert read["text"] == "flower"
    assert read["one"].tolist() == [[7]]
    rows = [{key: value if isinstance(value, str) else value.item() for key, value in row.items()} for row in read["cars"]]
    assert rows == [{"x": 1, "y": 2.5, "name": "a.jpg"}, {"x": 300, "y": 4.0, "name": "été"}]


def test_many_arrays_that_unpack_to_a_bomb_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(mat, "LARGEST", 10_000)
    savemat(tmp_path / "a.mat", {f"x{number}": np.zeros(1000) for number in range(3)}, do_compression=True)
    assert "it unpacks to more than 10000 bytes" in refusal(load_mat, Place(tmp_path / "a.mat"))


def test_files_of_other_kinds_are_refused(tmp_path):
    (tmp_path / "a.mat").write_bytes(b"\x89HDF" + bytes(200))
    assert "a.mat is no MATLAB file of level 5" in refusal(load_mat, Place(tmp_path / "a.mat"))
    (tmp_path / "a.mat").write_bytes(b"")
    assert "a.mat is no MATLAB file of level 5 (0 bytes" in refusal(load_mat, Place(tmp_path / "a.mat"))
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n")
    assert "save it with save(..., '-v7')" in refusal(load_mat, Place(tmp_path / "a.mat"))
    savemat(tmp_path / "b.mat", {"c": np.array([1, "x"], dtype=object)})
    assert "an array of class 1 is not read here" in refusal(load_mat, Place(tmp_path / "b.mat"))
    savemat(tmp_path / "c.mat", {"x": np.ones(3)}, format="4")
    assert "is no MATLAB file of level 5" in refusal(load_mat, Place(tmp_path / "c.mat"))
