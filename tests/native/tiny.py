"""The smallest library: what it takes to compile is what the compiler itself takes."""

from __future__ import annotations

from pathlib import Path

from dvm_mpi.native.library import Library

LIBRARY = Library("tiny", declared_in=__name__, modules=[__name__], sources=[Path(__file__)])


@LIBRARY.entry("int64(int64)")
def same(number):
    return number
