"""MATLAB's files, compared with what SciPy writes and reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from synreal.data.files.mat import read_numbers

VALUES = {
    "few": np.uint8([[7]]),
    "trainIds": np.uint16([[1], [2], [24966]]),
    "signed": np.int32([[-5, 6], [7, 8]]),
    "wide": np.int64([2**40, -1]),
    "real": np.float64([0.5, -2.0]),
    "none": np.zeros((0, 1), np.uint16),
}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", VALUES)
def test_numbers_are_those_that_scipy_reads(name: str, compressed: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    savemat(path, {"text": "a", **VALUES}, do_compression=compressed)
    found = read_numbers(path, name)
    assert found.tolist() == loadmat(path)[name].ravel(order="F").tolist()
    with pytest.raises(KeyError):
        read_numbers(path, "absent")
    with pytest.raises(ValueError, match="text is no array of numbers"):
        read_numbers(path, "text")


@pytest.mark.parametrize("compressed", [False, True])
def test_whatever_is_cut_off_or_changed_is_read_or_refused(compressed: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    savemat(path, {"ids": np.uint16(range(9))}, do_compression=compressed)
    whole = path.read_bytes()
    refused = 0
    for at in range(len(whole)):
        for damaged in (whole[:at], whole[:at] + b"\xff" + whole[at + 1 :], whole[:at] + b"\x00" + whole[at + 1 :]):
            path.write_bytes(damaged)
            try:
                read_numbers(path, "ids")
            except (ValueError, KeyError):
                refused += 1
    assert refused > len(whole)


def test_a_variable_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.mat"
    savemat(path, {"ids": np.zeros(100_000, np.uint16)}, do_compression=True)
    monkeypatch.setattr("synreal.data.files.mat._MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="too large"):
        read_numbers(path, "ids")
