"""Entries compute what Python would, and take nothing but what their signature says."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from dvm_mpi.native.library import Library


def test_integers_and_arrays_go_in_and_results_come_out(sample) -> None:
    values = np.arange(10, dtype=np.int64)
    assert sample.total(values, -3) == -3 * 45
    assert sample.total(values[2:4], 1 << 40) == 5 << 40
    assert sample.total(np.empty(0, np.int64), 1) == 0
    assert sample.is_odd(3) is True
    assert sample.is_odd(4) is False
    assert sample.element(np.arange(24).reshape(2, 3, 4), 1, 2, 3) == 23


def test_arrays_are_changed_in_place(sample) -> None:
    data, counts = np.zeros(6, np.uint8), np.zeros((2, 3), np.int64)
    assert sample.mark(data, np.array([1, 0, 0, 1, 1, 1], bool), counts) is None
    assert data.tolist() == [255, 0, 0, 255, 255, 255]
    assert counts.tolist() == [[1, 1, 0], [1, 0, 1]]


def test_arrays_that_may_not_be_written_can_be_read(sample) -> None:
    assert sample.total(np.frombuffer(bytes(16), np.int64), 7) == 0


@pytest.mark.parametrize(
    "values",
    [
        np.arange(4.0),
        np.arange(4, dtype=np.int32),
        np.arange(4, dtype=np.uint64),
        np.arange(4, dtype=">i8"),
        np.arange(4)[::2],
        np.arange(4).reshape(2, 2),
        np.array(4),
        np.frombuffer(bytes(33), np.uint8)[1:].view(np.int64),
    ],
    ids=["float", "int32", "unsigned", "swapped", "strided", "2d", "0d", "unaligned"],
)
def test_other_arrays_are_refused(sample, values) -> None:
    with pytest.raises(AssertionError, match=r"total\(.*\) is not int64\(int64\[::1\], int64\)"):
        sample.total(values, 1)


def test_columns_are_refused(sample) -> None:
    with pytest.raises(AssertionError, match="is not void"):
        sample.mark(np.zeros(1, np.uint8), np.zeros(1, bool), np.zeros((2, 3), np.int64).T)


@pytest.mark.parametrize("argument", [1.5, "x", np.float64(1), None])
def test_what_is_no_integer_is_refused(sample, argument) -> None:
    with pytest.raises(ctypes.ArgumentError):
        sample.is_odd(argument)


@pytest.mark.parametrize("arguments", [(), (1, 2)])
def test_arguments_are_counted(sample, arguments) -> None:
    with pytest.raises(AssertionError, match="is not boolean"):
        sample.is_odd(*arguments)


def test_an_assertion_of_compiled_code_is_one_of_python(sample) -> None:
    assert sample.root_of_square(12) == 12
    with pytest.raises(AssertionError, match=r"root_of_square\(-1\)"):
        sample.root_of_square(-1)
    assert sample.root_of_square(12) == 12, "and the next call is as good as ever"


@pytest.mark.parametrize(
    "signature", ["int64", "float64(int64)", "int64(int64[:])", "void(int64, )", "void(int32[::1])"]
)
def test_signatures_are_checked_when_they_are_declared(signature) -> None:
    library = Library("none", "none", [], [])
    with pytest.raises(AssertionError):
        library.entry_of("module", "name", signature)
