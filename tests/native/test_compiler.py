"""The compiler takes functions on arrays and integers, and refuses what would need Python."""

from __future__ import annotations

import math
import sys
from types import ModuleType

import numpy as np
import pytest
from numba.core.errors import TypingError

from dvm_mpi.native import compiler
from dvm_mpi.native.library import Library


def library_of(function, signature: str, monkeypatch) -> Library:
    """Return a library of one entry, in a module of its own."""
    module = ModuleType("made")
    monkeypatch.setitem(sys.modules, "made", module)
    function.__module__ = "made"
    library = Library("made", "made", ["made"], [])
    setattr(module, function.__name__, library.entry(signature)(function))
    return library


def test_code_is_position_independent_elf(monkeypatch) -> None:
    def twice(number):
        return 2 * number

    code = compiler.emit(library_of(twice, "int64(int64)", monkeypatch))
    assert code[:4] == b"\x7fELF"
    assert b"dvm_made_twice" in code


def sine(number):
    return int(math.sin(number))


def allocation(number):
    return np.empty(number, np.int64).size


def output(number):
    print(number)
    return number


@pytest.mark.parametrize(
    ("function", "error", "told"),
    [
        (sine, AssertionError, r"would call \['sin'\]"),
        (output, AssertionError, "would call .*Py"),
        (allocation, TypingError, "Only accept returning of array passed into the function"),
    ],
)
def test_functions_of_others_are_refused(monkeypatch, function, error, told) -> None:
    library = library_of(function, "int64(int64)", monkeypatch)
    with pytest.raises(error, match=told):
        compiler.emit(library)


def test_a_result_of_another_type_is_refused(monkeypatch) -> None:
    def half(number):
        return number / 2

    library = library_of(half, "int64(int64)", monkeypatch)
    with pytest.raises(AssertionError, match="half returns float64, not int64"):
        compiler.emit(library)


def test_indices_are_looked_at_unless_the_library_counts_forwards(monkeypatch) -> None:
    def element(values, index):
        return values[index]

    def emitted(*, counts_forwards: bool) -> bytes:
        library = library_of(element, "int64(int64[::1], int64)", monkeypatch)
        library.counts_forwards = counts_forwards
        return compiler.emit(library)

    looked_at = emitted(counts_forwards=False)
    assert emitted(counts_forwards=True) != looked_at
    # What one library says is nothing to the next.
    assert emitted(counts_forwards=False) == looked_at
