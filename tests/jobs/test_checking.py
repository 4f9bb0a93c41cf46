"""What the checks of the jobs share: whatever differs is told, in one line."""

from __future__ import annotations

import io
from pathlib import Path

import h5py
import numpy as np
import pytest

from jobs.lib.checking import compare, printed_number, read_array


def test_arrays_are_read_from_both_forms_of_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(3.0))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group/a"] = np.arange(4.0)
    assert read_array(f"{tmp_path}/a.npy").tolist() == [0, 1, 2]
    assert read_array(f"{tmp_path}/a.h5:group/a").tolist() == [0, 1, 2, 3]
    (tmp_path / "notes.txt").write_text("no arrays", encoding="utf-8")
    for place in ("absent.h5:a", "absent.npy", "a.h5:b", "notes.txt:a", "a.h5"):
        with pytest.raises(SystemExit, match=r"check: cannot read .*; run the job first"):
            read_array(f"{tmp_path}/{place}")


def test_equal_bits_agree(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = np.array([[0.0, -0.0], [np.nan, np.inf]])
    compare(numbers[:, ::-1], numbers[:, ::-1].copy(), "cells")
    assert capsys.readouterr().out == "check: 4 cells agree with numpy to the last bit\n"


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([1.0, -0.0, 3.0], r"1 sums differ from numpy's, the first at \(1,\): .*-0.0.*, not .*0.0"),
        ([1.0, 0.0], r"the sums are \(2,\) float64, numpy has \(3,\) float64"),
        (np.array([1, 0, 3]), r"the sums are \(3,\) int64, numpy has \(3,\) float64"),
    ],
    ids=["the sign of a zero", "fewer", "whole numbers"],
)
def test_what_differs_is_told(found: object, told: str) -> None:
    with pytest.raises(SystemExit, match=f"check: {told}"):
        compare(np.asarray(found), np.array([1.0, 0.0, 3.0]), "sums")


def test_the_last_number_of_an_output_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("below 100: 25\n"))
    assert printed_number() == 25
    monkeypatch.setattr("sys.stdin", io.StringIO("nothing\n"))
    with pytest.raises(SystemExit, match="no number"):
        printed_number()
