"""The place of an array's data, shape and type is where compiled code looks for it."""

from __future__ import annotations

import pytest

from dvm_mpi.native import headers


def test_arrays_of_this_numpy_are_understood() -> None:
    headers.check()


@pytest.mark.parametrize("word", ["DATA", "NDIM", "SHAPE", "DESCRIPTION", "FLAGS"])
def test_arrays_of_another_shape_are_noticed(monkeypatch, word) -> None:
    # One word on: still inside the object, and not what should be there.
    monkeypatch.setattr(headers, word, 5)
    with pytest.raises(AssertionError, match="does not know this numpy's arrays"):
        headers.check()
