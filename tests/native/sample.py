"""A small library, which tests have compiled."""

from __future__ import annotations

from pathlib import Path

from dvm_mpi.native.library import Library

LIBRARY = Library("sample", declared_in=__name__, modules=[__name__], sources=[Path(__file__)])


@LIBRARY.kernel
def scaled(value, factor):
    return value * factor


@LIBRARY.entry("int64(int64[::1], int64)")
def total(values, factor):
    result = 0
    for k in range(values.size):
        result += scaled(values[k], factor)
    return result


@LIBRARY.entry("void(uint8[::1], boolean[::1], int64[:, ::1])")
def mark(data, wanted, counts):
    for k in range(data.size):
        if wanted[k]:
            data[k] = 255
            counts[k % counts.shape[0], k % counts.shape[1]] += 1


@LIBRARY.entry("int64(int64[:, :, ::1], int64, int64, int64)")
def element(block, i, j, k):
    return block[i, j, k]


@LIBRARY.entry("boolean(int64)")
def is_odd(number):
    return number & 1 == 1


@LIBRARY.entry("int64(int64)")
def root_of_square(number):
    assert number >= 0, "negative"
    return int(float(number * number) ** 0.5)
